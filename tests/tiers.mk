# The tiers of the end-to-end tests, by names as `cargo test` takes them: `module::` or `module::test`. A test in no
# list runs in `make test`, on MariaDB. A unit test compares every name with the sources.

# `make check`, for a commit: one test for each of the main promises.
CHECK := \
  gateway::config::wrong_settings_are_all_listed_at_once_with_exit_code_2 \
  gateway::cases::every_worked_example_is_answered_and_published_as_written \
  worker::pipeline::a_reading_reaches_every_table_and_redis \
  worker::pipeline::a_reading_sent_again_merges_and_changes_nothing \
  worker::pipeline::an_older_reading_is_stored_but_never_replaces_the_newest \
  faults::remedies::a_poison_reading_is_dead_lettered_and_the_rest_is_stored \
  faults::remedies::a_missing_table_holds_everything_says_so_and_resumes_by_itself \
  worker::dlq::a_dead_letter_goes_back_once_and_never_over_newer_values \
  faults::commits::a_commit_whose_answer_is_lost_is_recognised_as_one_s_own \
  worker::sharing::two_workers_share_the_partitions_and_store_everything_once \
  worker::sharing::a_stretch_delivered_again_changes_no_value \
  faults::sigterm::sigterm_of_a_worker_under_load_loses_and_doubles_nothing \
  worker::audit::a_healthy_run_holds_in_every_view \
  worker::redis::an_outage_leaves_no_device_stale \
  faults::servers_lost::broker_stopped_means_503_with_retry_after_and_no_200_without_a_record \
  alerter::alerts::a_breach_is_notified_once_its_end_once_and_a_restart_repeats_nothing \
  alerter::faults::a_commit_whose_answer_is_lost_raises_nothing_twice \
  alerter::outbox::a_message_whose_answer_was_lost_is_received_once \
  alerter::people::wearer_and_managers_are_notified_by_their_tenant_s_accounts_and_nobody_else \
  gateway::traces::one_can_go_from_a_request_to_its_batch_and_back_and_to_its_alert

# `make test` runs these on MySQL as well: every statement once, and all that the two servers do differently (upserts,
# types, errors, locks, plans). The other tests use the same SQL.
MYSQL := \
  worker::account::a_topic_made_anew_is_refused_until_it_is_accepted_and_then_stored_whole \
  worker::account::a_worker_and_an_alerter_never_share_a_group \
  adopt::copy:: \
  adopt::cut_over:: \
  alerter::cases::messages:: \
  alerter::cases::rules:: \
  alerter::faults::a_commit_whose_answer_is_lost_raises_nothing_twice \
  alerter::faults::a_refused_row_costs_itself_alone_and_its_message_goes_out \
  alerter::faults::a_partition_that_mysql_does_not_take_waits_alone_and_nothing_is_notified_twice \
  alerter::no_data:: \
  alerter::operators::a_retry_skips_what_comes_too_late_and_a_drop_needs_no_log \
  alerter::operators::a_test_message_arrives_marked_leaves_no_row_and_an_answer_is_shown \
  alerter::outbox::after_an_hour_what_still_matters_comes_marked_and_the_rest_is_dropped \
  alerter::outbox::operators_list_retry_and_drop_what_is_in_the_outbox \
  alerter::people:: \
  alerter::routing::one_message:: \
  alerter::routing::refused_by_all:: \
  alerter::routing::rerouted:: \
  alerter::routing::routed_again:: \
  alerter::alerts:: \
  worker::audit:: \
  worker::bindings:: \
  faults::commits:: \
  faults::disk::what_only_other_servers_say_is_waited_out_as_well \
  faults::servers_lost::mysql_stopped_and_back_loses_nothing_and_needs_nobody \
  worker::merges:: \
  worker::modes:: \
  worker::months:: \
  worker::offsets:: \
  privacy:: \
  worker::pipeline:: \
  worker::records:: \
  worker::redis::a_server_with_a_small_packet_is_asked_for_the_newest_rows_in_parts \
  worker::redis::what_the_topic_no_longer_has_is_repaired_from_mysql \
  faults::remedies:: \
  alerter::rules:: \
  alerter::sender:: \
  faults::database:: \
  alerter::silences:: \
  alerter::templates:: \
  alerter::waiting::every_worked_example_of_a_queue_goes_as_written \
  alerter::waiting::what_waits_for_its_minute_goes_once_its_alert_becomes_critical \
  faults::silent:: \
  worker::tables:: \
  worker::where_is:: \
  faults::tls::

# `make soak-tests`, for a release: kills, overload, long runs. On both databases, and not in `make test`.
SOAK := \
  adopt::killed:: \
  alerter::replicas::commits::replicas_killed_again_and_again_at_their_commits_notify_once \
  alerter::replicas::crash:: \
  alerter::faults::a_clock_two_days_fast_silences_nobody_and_one_two_days_slow_is_notified_as_late \
  gateway::topics::a_topic_that_becomes_unsafe_later_is_refused_until_it_is_fixed \
  faults::disk::a_full_disk_is_waited_out \
  faults::disk::files_that_may_not_grow_are_waited_out \
  faults::silent::a_worker_frozen_inside_a_transaction_lets_go_of_its_locks \
  faults::servers_lost::worker_killed_in_mid_batch_loses_and_doubles_nothing \
  faults::rebalance:: \
  worker::transactions::a_worker_whose_topic_ends_in_a_marker_stays_healthy_however_quiet_it_is \
  worker::sharing::the_last_release_is_rolled_forward_under_load_and_everything_stored_once \
  worker::sharing::this_version_is_rolled_back_under_load_and_everything_stored_once \
  drills::rolling_update::
