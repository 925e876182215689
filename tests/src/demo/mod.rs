//! The demo: runs the whole pipeline with a simulated fleet, shows live figures, and accounts for
//! every reading at its end. The comparison of readings belongs to [`crate::accounting`].

mod account;
mod arguments;
mod figures;
mod probe;
mod run;
mod screen;
mod stage;
mod targets;

pub use arguments::Arguments;
pub(crate) use probe::Marker;
pub use run::run;
