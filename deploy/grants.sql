-- Accounts of the programs, each with the rights that its statements need. docs/running.md, "Rights", says which
-- program uses which account.
--
-- In a copy of this file, replace the database ljwx, every password 'change-me', and '%' by the hosts that may
-- connect. ljwx_platform is the database of an earlier server, whose tables are adopted (docs/migration.md); without
-- one, remove the lines of ljwx_adopt. Run the copy as an administrator:
--   mysql --force < grants.sql
-- before the first `worker migrate`, and again after each `worker migrate`. No server grants rights on single tables
-- that do not exist yet: --force skips these, and the next run grants them. A second run changes nothing else.

CREATE USER IF NOT EXISTS 'ljwx_migrate'@'%' IDENTIFIED BY 'change-me';
CREATE USER IF NOT EXISTS 'ljwx_maintenance'@'%' IDENTIFIED BY 'change-me';
CREATE USER IF NOT EXISTS 'ljwx_worker'@'%' IDENTIFIED BY 'change-me';
CREATE USER IF NOT EXISTS 'ljwx_alerter'@'%' IDENTIFIED BY 'change-me';
CREATE USER IF NOT EXISTS 'ljwx_operator'@'%' IDENTIFIED BY 'change-me';
CREATE USER IF NOT EXISTS 'ljwx_erase'@'%' IDENTIFIED BY 'change-me';
CREATE USER IF NOT EXISTS 'ljwx_adopt'@'%' IDENTIFIED BY 'change-me';

-- `worker migrate` creates and changes every table.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP ON ljwx.* TO 'ljwx_migrate'@'%';

-- The months of the main table and the retention of documents, in `worker run`. The rights hold for the whole
-- database, because the rows of an expired month move to a table that is named for the time of the move. The rows
-- are counted in the ledger.
GRANT SELECT, INSERT, CREATE, ALTER, DROP, LOCK TABLES ON ljwx.* TO 'ljwx_maintenance'@'%';
GRANT UPDATE ON ljwx.ingest_progress TO 'ljwx_maintenance'@'%';
GRANT DELETE ON ljwx.ingest_dropped_month TO 'ljwx_maintenance'@'%';
GRANT DELETE ON ljwx.t_user_health_data_daily TO 'ljwx_maintenance'@'%';
GRANT DELETE ON ljwx.t_user_health_data_weekly TO 'ljwx_maintenance'@'%';

-- Everything else in `worker run`.
GRANT SELECT, INSERT, UPDATE ON ljwx.t_user_health_data TO 'ljwx_worker'@'%';
GRANT SELECT, INSERT, UPDATE ON ljwx.t_user_health_data_daily TO 'ljwx_worker'@'%';
GRANT SELECT, INSERT, UPDATE ON ljwx.t_user_health_data_weekly TO 'ljwx_worker'@'%';
GRANT SELECT, INSERT, UPDATE ON ljwx.ingest_progress TO 'ljwx_worker'@'%';
GRANT SELECT, INSERT, UPDATE ON ljwx.redis_generation TO 'ljwx_worker'@'%';
GRANT SELECT ON ljwx.ingest_control TO 'ljwx_worker'@'%';
GRANT SELECT ON ljwx.ingest_topic TO 'ljwx_worker'@'%';
GRANT SELECT ON ljwx.sys_user TO 'ljwx_worker'@'%';
GRANT SELECT ON ljwx.sys_user_org TO 'ljwx_worker'@'%';
GRANT SELECT ON ljwx.sys_org_units TO 'ljwx_worker'@'%';

-- `alerter run`. REPLACE needs INSERT and DELETE.
GRANT SELECT, INSERT, UPDATE ON ljwx.ingest_progress TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.ingest_topic TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.t_alert_rules TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, DELETE ON ljwx.t_alert_rule_last_good TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, DELETE ON ljwx.t_alert_state TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, DELETE ON ljwx.t_alert_journal TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, DELETE ON ljwx.t_alert_partition TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, DELETE ON ljwx.t_alert_no_data_clock TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON ljwx.t_alert_info TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, DELETE ON ljwx.t_alert_action_log TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON ljwx.t_alert_suppressed TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON ljwx.t_alert_outbox TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.t_alert_silence TO 'ljwx_alerter'@'%';
GRANT SELECT, INSERT, UPDATE ON ljwx.t_alert_recipient_address TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.t_wechat_alarm_config TO 'ljwx_alerter'@'%';
GRANT INSERT ON ljwx.t_device_message TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.sys_user TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.sys_user_org TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.sys_org_units TO 'ljwx_alerter'@'%';
GRANT SELECT ON ljwx.sys_org_manager_cache TO 'ljwx_alerter'@'%';

-- All other commands of worker and alerter. They read the whole database, because the audit counts the rows of
-- expired months, in tables that are named for the time of the move.
GRANT SELECT ON ljwx.* TO 'ljwx_operator'@'%';
GRANT INSERT, UPDATE ON ljwx.ingest_progress TO 'ljwx_operator'@'%';
GRANT INSERT, UPDATE ON ljwx.ingest_control TO 'ljwx_operator'@'%';
GRANT INSERT, UPDATE ON ljwx.ingest_purged_letter TO 'ljwx_operator'@'%';
GRANT INSERT, UPDATE, DELETE ON ljwx.t_alert_silence TO 'ljwx_operator'@'%';
GRANT UPDATE ON ljwx.t_alert_outbox TO 'ljwx_operator'@'%';
GRANT INSERT ON ljwx.t_alert_action_log TO 'ljwx_operator'@'%';
GRANT INSERT, UPDATE, DELETE ON ljwx.t_alert_recipient_address TO 'ljwx_operator'@'%';

-- `worker erase`, for the data of a person who asks for it. It needs an account of its own, because no other
-- account of a person may delete readings.
GRANT SELECT ON ljwx.* TO 'ljwx_erase'@'%';
GRANT UPDATE ON ljwx.ingest_progress TO 'ljwx_erase'@'%';
GRANT INSERT, UPDATE ON ljwx.ingest_dropped_month TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_user_health_data TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_user_health_data_daily TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_user_health_data_weekly TO 'ljwx_erase'@'%';
GRANT UPDATE, DELETE ON ljwx.t_alert_state TO 'ljwx_erase'@'%';
GRANT UPDATE, DELETE ON ljwx.t_alert_journal TO 'ljwx_erase'@'%';
GRANT UPDATE, DELETE ON ljwx.t_alert_outbox TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_alert_info TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_alert_action_log TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_alert_silence TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_alert_recipient_address TO 'ljwx_erase'@'%';
GRANT DELETE ON ljwx.t_device_message TO 'ljwx_erase'@'%';
-- `worker adopt`, until the tables of an earlier server are adopted. EVENT finds and switches off the monthly job,
-- TRIGGER and SHOW VIEW find triggers and views, and PROCESS names the sessions for which the cut-over waits. CREATE,
-- ALTER, DROP and INSERT rename tables.
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, EVENT, TRIGGER ON ljwx.* TO 'ljwx_adopt'@'%';
GRANT SELECT, INSERT, CREATE, ALTER, DROP, EVENT, TRIGGER, SHOW VIEW ON ljwx_platform.* TO 'ljwx_adopt'@'%';
GRANT PROCESS ON *.* TO 'ljwx_adopt'@'%';
