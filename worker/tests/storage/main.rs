//! Tests on a real server what the worker expects of the database. Run the tests with `deploy/stack
//! run -- cargo test --workspace --test storage`.

mod errors;
mod scratch;
