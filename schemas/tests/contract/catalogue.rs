// SPDX-License-Identifier: Apache-2.0
//! Every message type, once; tests are made of it by macro, so that none can
//! be forgotten in one of them.

/// Calls a macro with `(asked|told) Type strategy;` per message. Asked: the
/// schema says what may be written. Told: it says what is always there.
macro_rules! for_each_message {
    ($call:ident) => {
        $call! {
            asked ApplyRequest apply_request;
            asked DeleteRequest delete_request;
            told ApplyReply apply_reply;
            told DryRunReply dry_run_reply;
            asked GetRequest get_request;
            told GetReply get_reply;
            asked RenderRequest render_request;
            told RenderReply render_reply;
            asked ResyncRequest resync_request;
            told ResyncReply resync_reply;
            asked DisconnectRequest disconnect_request;
            told DisconnectReply disconnect_reply;
            asked ConnectRequest connect_request;
            asked MoveRequest move_request;
            asked ClaimRequest claim_request;
            told ClaimReply claim_reply;
            asked ReleaseRequest release_request;
            told ReleaseReply release_reply;
            asked Yield yield_request;
            asked PlacementsRequest placements_request;
            told PlacementsReply placements_reply;
            asked Hello hello;
            told HelloReply hello_reply;
            asked Identify identify;
            told Identified identified;
            asked ForgetRequest forget_request;
            told ForgetReply forget_reply;
            asked ContinueRequest continue_request;
            told ContinueReply continue_reply;
            asked HostListRequest host_list_request;
            told HostListReply host_list_reply;
            told Heartbeat heartbeat;
            told Drift drift;
            asked Clobber clobber;
            told ApplyReport apply_report;
            asked Remove remove;
            told RemoveReport remove_report;
            told Plan plan;
            asked Live live;
            told LiveReply live_reply;
            asked RetryPut retry_put;
            told PutReply put_reply;
            asked RetryListRequest retry_list_request;
            told RetryListReply retry_list_reply;
            asked EntrySelection entry_selection;
            told SelectionReply selection_reply;
            told Changed changed;
            told Settled settled;
            told HostConditions host_conditions;
            told EventNotice event_notice;
            told Fetch fetch;
            told Fetched fetched;
            told EventAck event_ack;
            asked RuntimeGetRequest runtime_get_request;
            told RuntimeRecord runtime_record;
            asked RuntimeListRequest runtime_list_request;
            told RuntimeListReply runtime_list_reply;
            asked RuntimeHistoryRequest runtime_history_request;
            told RuntimeHistoryReply runtime_history_reply;
            asked RuntimeRollupRequest runtime_rollup_request;
            told RuntimeRollupReply runtime_rollup_reply;
            asked RuntimeConditionsRequest runtime_conditions_request;
            told RuntimeConditionsReply runtime_conditions_reply;
            asked RuntimeForgetRequest runtime_forget_request;
            told RuntimeForgetReply runtime_forget_reply;
            asked LiveRequest live_request;
            told ProblemBody problem_body;
        }
    };
}
pub(crate) use for_each_message;
