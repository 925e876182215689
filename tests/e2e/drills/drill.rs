//! The blocks of a drill, run one after the other.

use std::vec::IntoIter;

use anyhow::{Context, Result, ensure};
use ljwx_tests::repo::markdown::Block;
use ljwx_tests::stack::world::World;

use crate::runbook_blocks::{Variables, blocks, run, variables};

/// The blocks of a section of the runbook that are still to be run.
pub struct Drill {
    blocks: IntoIter<Block>,
    variables: Variables,
}

impl Drill {
    /// Reads the section under this heading.
    pub fn read(section: &str, world: &World) -> Result<Self> {
        let blocks = blocks("drill", Some(section))?;
        ensure!(!blocks.is_empty(), "the runbook has no drill {section:?}");
        let mut variables = variables(world)?;
        variables.extend([
            ("DEVELOPMENT", "true".to_owned()),
            ("PARTITIONS", world.partitions().to_string()),
            ("USER", "ann".to_owned()),
        ]);
        Ok(Self { blocks: blocks.into_iter(), variables })
    }

    /// Sets a variable of the blocks that follow.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.push((name, value.into()));
    }

    /// Runs the next block, and returns what it prints.
    pub async fn step(&mut self) -> Result<String> {
        let block = self.blocks.next().context("the section has no further block")?;
        run(&block, &self.variables).await
    }

    /// Ensures that every block of the section has been run.
    pub fn end(self) -> Result<()> {
        ensure!(self.blocks.len() == 0, "not run: {:#?}", self.blocks.as_slice());
        Ok(())
    }
}
