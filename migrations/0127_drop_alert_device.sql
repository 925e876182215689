-- t_alert_journal says what devices have said. Nobody empties this table, and it holds personal data.
DROP TABLE IF EXISTS t_alert_device;
