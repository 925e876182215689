//! Notes in rows whose readings do not say whose device it is what the platform's tables say.

use std::collections::BTreeSet;

use ljwx_ledger::device_bindings::Bindings;
use ljwx_reading::DeviceSn;

use crate::batch::Batch;
use crate::batch::row::Row;

/// Notes in every row that lacks an id what its device is bound to. Fails only where the database
/// cannot be asked, and then nothing can be written either.
pub async fn fill(bindings: &Bindings, batch: &mut Batch) -> Result<(), sqlx::Error> {
    let wanted: BTreeSet<DeviceSn> = batch
        .segments
        .iter()
        .flat_map(|segment| segment.all_rows())
        .filter(|(_, row)| lacks_an_id(row))
        .map(|(identity, _)| identity.0.clone())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let known = bindings.known(wanted).await?;
    for segment in &mut batch.segments {
        let merged = segment.rows.iter_mut();
        let replays = segment.replays.iter_mut().map(|(identity, row)| (&*identity, row));
        for ((device_sn, _), row) in merged.chain(replays).filter(|(_, row)| lacks_an_id(row)) {
            row.bound = known.get(device_sn).copied().unwrap_or_default();
        }
    }
    Ok(())
}

fn lacks_an_id(row: &Row) -> bool {
    !row.ids.is_complete()
}
