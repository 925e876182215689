//! Checks of the repository itself.

pub mod markdown;
pub mod metrics_page;

#[cfg(test)]
mod dependencies;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod floors;
#[cfg(test)]
mod states;
#[cfg(test)]
mod tiers;
#[cfg(test)]
mod translations;
