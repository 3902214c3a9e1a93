// SPDX-License-Identifier: Apache-2.0
//! Mirrors of a session's name: which are the session's, and which are not.

use std::sync::Arc;

use dvs_ovsdb::testing::skipped;
use dvs_schemas::{Direction, MirrorPort};
use dvs_tests::lan::{Host, access, id, switch, until};
use host_agent::datapath::{Datapath, DriftPolicy, Mirror, Remembered, Step, Write};

use super::{into, of_vlan};

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_others_with_a_sessions_name_stays_and_the_session_fails() {
    if skipped("a_mirror_of_others_with_a_sessions_name_stays_and_the_session_fails") {
        return;
    }
    let mut host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let _b = host.vm(2, "b", access(10)).await;
    let words = format!(
        "--id=@p get Port {} -- --id=@m create Mirror name=span select_all=true output_port=@p -- \
         add Bridge {} mirrors @m",
        a.interface(),
        host.bridge()
    );
    let words: Vec<&str> = words.split_whitespace().collect();
    let row = host.ovs.vsctl(&words).unwrap();
    let shown = |host: &Host| host.ovs.vsctl(&["list", "Mirror", row.trim()]).unwrap();
    let theirs = shown(&host);
    let session = Mirror {
        ports: vec![MirrorPort {
            port: id("b"),
            direction: Direction::Both,
        }],
        vlans: Vec::new(),
        destination: into(999),
    };
    let refused = async |host: &Host| {
        let failure = host.mirror("span", session.clone()).await.unwrap_err();
        assert!(failure.message.contains(row.trim()), "{failure}");
        assert_eq!(shown(host), theirs);
    };
    refused(&host).await;
    // The others go on.
    host.mirror("m", session.clone()).await.unwrap();
    host.port("a", access(20), Some(a.mac())).await.unwrap();
    // An agent that starts takes it for its own as little.
    let to = Arc::new(host.settings());
    let wanted = [
        Write::SetBridge { from: None, to },
        Write::SetMirror {
            mirror: "span".parse().unwrap(),
            from: None,
            to: Arc::new(session.clone()),
        },
    ];
    let wanted = wanted.map(|write| Step {
        switch: switch(),
        write,
    });
    host.restart_agent().await;
    let known = Remembered {
        counters: Vec::new(),
        wanted: wanted.to_vec(),
    };
    host.datapath.resume(known).await;
    host.datapath.read().await.unwrap();
    assert_eq!(shown(&host), theirs);
    refused(&host).await;
    // It goes on once that is gone.
    let gone = ["clear", "Bridge", &host.bridge(), "mirrors"];
    host.ovs.vsctl(&gone).unwrap();
    host.mirror("span", session.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_marks_somebody_takes_away_goes_with_its_rows() {
    if skipped("a_session_whose_marks_somebody_takes_away_goes_with_its_rows") {
        return;
    }
    let host = Host::with(|_, config, _| config.drift = DriftPolicy::Report).await;
    let _a = host.vm(1, "a", access(10)).await;
    let session = of_vlan(10, into(999));
    host.mirror("m", session.clone()).await.unwrap();
    let mut rows = host
        .ovs
        .vsctl(&["--columns=_uuid", "--bare", "list", "Mirror"]);
    let row = rows.as_mut().unwrap().trim().to_owned();
    host.ovs
        .vsctl(&["clear", "Mirror", &row, "external_ids"])
        .unwrap();
    until("it is told", async || host.counts.drifts() == 1).await;
    host.write(Write::RemoveMirror {
        mirror: "m".parse().unwrap(),
        from: Arc::new(session),
    })
    .await
    .unwrap();
    assert_eq!(host.ovs.vsctl(&["list", "Mirror"]).unwrap(), "");
}
