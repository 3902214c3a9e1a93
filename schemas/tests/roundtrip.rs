// SPDX-License-Identifier: Apache-2.0
//! Every document and message type says the same in both formats: what is
//! written is read back equal, from JSON, from MessagePack, and through the
//! translation of one into the other that the `nats` command line's users rely
//! on when they look at what programs sent.
#![allow(clippy::unwrap_used)]

use dvs_schemas::arbitrary::messages::*;
use dvs_schemas::arbitrary::*;
use dvs_schemas::codec::{decode, encode};
use dvs_schemas::v1::{
    ApplyReply, ApplyReport, ApplyRequest, Changed, Clobber, DeleteRequest, DisconnectReply,
    DisconnectRequest, DryRunReply, EntrySelection, EventAck, GetReply, GetRequest, Heartbeat,
    Hello, HelloReply, HostListReply, HostListRequest, Live, LiveReply, LiveRequest, Plan,
    PutReply, Remove, RemoveReport, RenderReply, RenderRequest, ResyncReply, ResyncRequest,
    RetryListReply, RetryListRequest, RetryPut, RuntimeGetRequest, RuntimeListReply,
    RuntimeListRequest, RuntimeRecord, SelectionReply, Settled,
};
use dvs_schemas::{Document, Format};
use proptest::prelude::*;

const FORMATS: [Format; 2] = [Format::Json, Format::MessagePack];

/// Few cases, for there are many types; and failures are not recorded, since
/// their printed value says all.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

macro_rules! roundtrips {
    ($($test:ident: $type:ty = $strategy:expr;)*) => {
        proptest! {
            #![proptest_config(config())]
            $(#[test]
            fn $test(value in $strategy) {
                for format in FORMATS {
                    let bytes = encode(format, &value).unwrap();
                    let read = decode::<$type>(&bytes);
                    prop_assert_eq!(read, Ok((format, value.clone())));
                }
            })*
        }
    };
}

roundtrips! {
    documents: Document = document();
    gets: GetRequest = get_request();
    get_replies: GetReply = get_reply();
    apply_replies: ApplyReply = apply_reply();
    dry_run_replies: DryRunReply = dry_run_reply();
    render_requests: RenderRequest = render_request();
    render_replies: RenderReply = render_reply();
    resyncs: ResyncRequest = resync_request();
    resync_replies: ResyncReply = resync_reply();
    disconnects: DisconnectRequest = disconnect_request();
    disconnect_replies: DisconnectReply = disconnect_reply();
    hellos: Hello = hello();
    hello_replies: HelloReply = hello_reply();
    heartbeats: Heartbeat = heartbeat();
    host_lists: HostListRequest = host_list_request();
    host_list_replies: HostListReply = host_list_reply();
    clobbers: Clobber = clobber();
    apply_reports: ApplyReport = apply_report();
    removes: Remove = remove();
    remove_reports: RemoveReport = remove_report();
    plans: Plan = plan();
    retry_puts: RetryPut = retry_put();
    put_replies: PutReply = put_reply();
    retry_lists: RetryListRequest = retry_list_request();
    retry_list_replies: RetryListReply = retry_list_reply();
    selections: EntrySelection = entry_selection();
    selection_replies: SelectionReply = selection_reply();
    changed_events: Changed = changed();
    settled_events: Settled = settled();
    event_acks: EventAck = event_ack();
    runtime_gets: RuntimeGetRequest = runtime_get_request();
    runtime_records: RuntimeRecord = runtime_record();
    runtime_lists: RuntimeListRequest = runtime_list_request();
    runtime_list_replies: RuntimeListReply = runtime_list_reply();
    live_requests: LiveRequest = live_request();
    lives: Live = live();
    live_replies: LiveReply = live_reply();
    problems: dvs_schemas::problem::ProblemBody = problem_body();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn apply_requests(request in apply_request()) {
        for format in FORMATS {
            let bytes = encode(format, &request).unwrap();
            prop_assert_eq!(ApplyRequest::decode(&bytes), Ok((format, request.clone())));
        }
    }

    #[test]
    fn delete_requests(request in delete_request()) {
        for format in FORMATS {
            let bytes = encode(format, &request).unwrap();
            prop_assert_eq!(DeleteRequest::decode(&bytes), Ok((format, request.clone())));
        }
    }

    /// A document that was translated from one format into the other by
    /// somebody who knows neither is still the same document.
    #[test]
    fn translated_documents(document in document()) {
        let packed = encode(Format::MessagePack, &document).unwrap();
        let tree: serde_json::Value = rmp_serde::from_slice(&packed).unwrap();
        let text = serde_json::to_vec(&tree).unwrap();
        prop_assert_eq!(decode::<Document>(&text), Ok((Format::Json, document)));
    }
}
