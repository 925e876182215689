//! Adds to the platform's tables what this system needs in them, if it is not there although the migrations
//! that add it are recorded: after the cut-over of `worker adopt`, the record lies in the platform's
//! database.

use ljwx_ledger::mysql::MySqlPool;
use sqlx::migrate::Migrator;
use tracing::info;

/// A column of each addition, with its table.
const ADDED: [(&str, &str); 3] = [
    ("t_alert_rules", "clear_min"),
    ("t_wechat_alarm_config", "default_address"),
    ("t_wechat_alarm_config", "template_fields"),
];

/// The migrations that add. They change nothing that is there.
const ADDED_BY: [i64; 2] = [9, 15];

/// Adds what is missing in the platform's tables.
pub async fn complete(pool: &MySqlPool, migrations: &Migrator) -> anyhow::Result<()> {
    if !lack_something(pool).await? {
        return Ok(());
    }
    for migration in migrations.iter().filter(|one| ADDED_BY.contains(&one.version)) {
        sqlx::raw_sql(migration.sql.clone()).execute(pool).await?;
    }
    info!("columns added to the platform's tables");
    Ok(())
}

async fn lack_something(pool: &MySqlPool) -> Result<bool, sqlx::Error> {
    for (table, column) in ADDED {
        let lacks: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.TABLES AS t WHERE t.TABLE_SCHEMA = DATABASE() \
             AND t.TABLE_NAME = ? AND NOT EXISTS (SELECT 1 FROM information_schema.COLUMNS AS c \
             WHERE c.TABLE_SCHEMA = DATABASE() AND c.TABLE_NAME = ? AND c.COLUMN_NAME = ?)",
        )
        .bind(table)
        .bind(table)
        .bind(column)
        .fetch_one(pool)
        .await?;
        if lacks > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
