//! What the worker expects of the database, held against the real server. Run it through
//! `deploy/stack run -- cargo test --workspace --test storage`.

mod errors;
mod scratch;
