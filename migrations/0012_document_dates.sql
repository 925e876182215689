-- The retention of daily and weekly documents finds old rows by their dates. `worker migrate` runs this
-- file again if one of the tables was renamed away: it does nothing if an index is there.
SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.statistics
     WHERE table_schema = DATABASE() AND table_name = 't_user_health_data_daily'
       AND index_name = 'idx_date') = 0,
    'ALTER TABLE t_user_health_data_daily ADD KEY idx_date (date)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;

SET @change = IF(
    (SELECT COUNT(*) FROM information_schema.statistics
     WHERE table_schema = DATABASE() AND table_name = 't_user_health_data_weekly'
       AND index_name = 'idx_week_start') = 0,
    'ALTER TABLE t_user_health_data_weekly ADD KEY idx_week_start (week_start)',
    'DO 0');
PREPARE change_statement FROM @change;
EXECUTE change_statement;
DEALLOCATE PREPARE change_statement;
