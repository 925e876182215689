//! The template of an official account: its fields, the contents that they show, and the form that
//! each field's type demands.
//!
//! Pure. The platform sends nothing if a value does not fit the type of its field.

mod content;
mod field_map;
mod field_type;

pub use field_map::FieldMap;
