//! Finds user, organisation and tenant of rows whose readings do not carry all ids, in the
//! platform's tables.

use std::collections::BTreeSet;

use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_reading::DeviceSn;

use crate::batch::Segment;
use crate::batch::row::ReadingRow;

/// Adds the ids of the device's binding to every row that is missing an id. Errors only if MySQL is
/// unreachable; the batch could not be written then either.
pub async fn fill(bindings: &DeviceBindings, segments: &mut [Segment]) -> Result<(), sqlx::Error> {
    let wanted: BTreeSet<DeviceSn> = segments
        .iter()
        .flat_map(|segment| segment.all_rows())
        .filter(|(_, row)| is_missing_an_id(row))
        .map(|(identity, _)| identity.0.clone())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let known = bindings.known(wanted).await?;
    for segment in segments {
        let merged = segment.rows.iter_mut();
        let replays = segment.replays.iter_mut().map(|(identity, row)| (&*identity, row));
        for ((device_sn, _), row) in merged.chain(replays).filter(|(_, row)| is_missing_an_id(row))
        {
            row.bound = known.get(device_sn).copied().unwrap_or_default();
        }
    }
    Ok(())
}

fn is_missing_an_id(row: &ReadingRow) -> bool {
    !row.ids.is_complete()
}
