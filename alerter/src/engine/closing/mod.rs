//! Closes episodes for another reason than a reading: their rule changed, or their device has another
//! wearer, belongs to nobody, or is forgotten.
//!
//! Pure.

pub(super) mod ends;
mod forgotten;
