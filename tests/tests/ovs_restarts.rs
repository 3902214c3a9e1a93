// SPDX-License-Identifier: Apache-2.0
//! The agent, Open vSwitch or its database goes away and comes back: how long
//! no frame passes, and what becomes of a change that was under way.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dvs_ovsdb::Endpoint;
use dvs_ovsdb::testing::skipped;
use dvs_schemas::v1::{ConditionKind, ConditionTarget};
use dvs_tests::lan::{Frame, Host, Mac, QUICK, Vm, access, missing, plug, reaches, switch, until};
use host_agent::datapath::{ConditionsNow, Datapath, Notice, Ports, Remembered, Step, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A bridge that forwards by itself loses frames, too, while its switch is
/// away. With one every 10 ms, our ports may lose so many more: half a second
/// to find the switch and to write its rules.
const MORE_LOST: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_restarts_loses_little_more_of_our_frames_than_of_others() {
    if skipped("a_switch_that_restarts_loses_little_more_of_our_frames_than_of_others") {
        return;
    }
    let mut host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let b = host.vm(2, "b", access(10)).await;
    let words = "add-br plain -- set Bridge plain datapath_type=netdev";
    let words: Vec<&str> = words.split(' ').collect();
    host.ovs.vsctl(&words).unwrap();
    let [c, d] = [3, 4].map(|number| {
        let vm = Vm::start(Mac::numbered(number));
        plug(&host.ovs, "plain", &vm, &format!("plain-{number}"), None);
        vm
    });
    let mut of_others = Vec::new();
    let (of_ours, ..) = missing(a, b, QUICK, async || {
        (of_others, ..) = missing(c, d, QUICK, async || {
            host.ovs.stop_vswitchd().unwrap();
            host.ovs.start_vswitchd().unwrap();
        })
        .await;
    })
    .await;
    let lost = [of_ours.len(), of_others.len()];
    eprintln!("lost of ours and of others: {lost:?}");
    assert!(lost[0] <= lost[1] + MORE_LOST, "{lost:?}");
}

/// Where the way to a database is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// A transaction doesn't get there.
    Before,
    /// It does, and its answer doesn't come back.
    After,
}

/// Where the next transaction meets the cut, and who is told that it has.
type Trap = Arc<Mutex<Option<(Cut, oneshot::Sender<()>)>>>;

/// Stands between the agent and the database.
async fn stand_between(agent: UnixListener, database: PathBuf, trap: Trap) {
    while let Ok((agent, _)) = agent.accept().await {
        if let Ok(database) = UnixStream::connect(&database).await {
            tokio::spawn(carry(agent, database, Arc::clone(&trap)));
        }
    }
}

/// Carries what one says to the other, until the trap closes; then nothing
/// more until the database is gone.
async fn carry(mut agent: UnixStream, mut database: UnixStream, trap: Trap) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = agent.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let said = &up[..length];
                let is_transaction = said.windows(10).any(|word| word == b"\"transact\"");
                let caught = is_transaction.then(|| trap.lock().unwrap().take()).flatten();
                if caught.as_ref().is_none_or(|(cut, _)| *cut == Cut::After) {
                    database.write_all(said).await.unwrap();
                }
                if let Some((_, tell)) = caught {
                    tell.send(()).unwrap();
                    while let Ok(1..) = database.read(&mut down).await {}
                    return;
                }
            }
            read = database.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if agent.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_dies_amid_a_change_has_it_after_one_full_read() {
    if skipped("a_database_that_dies_amid_a_change_has_it_after_one_full_read") {
        return;
    }
    for cut in [Cut::Before, Cut::After] {
        let trap = Trap::default();
        let mut host = Host::with(|_, config, ovs| {
            // Without its database Open vSwitch speaks with nobody, and asks
            // for it after some seconds.
            config.patience = Duration::from_secs(3);
            let socket = ovs.run_dir().join("between.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let database = ovs.run_dir().join("db.sock");
            tokio::spawn(stand_between(listener, database, Arc::clone(&trap)));
            config.database.endpoint = Endpoint::Unix(socket);
        })
        .await;
        let mut a = host.vm(1, "a", access(10)).await;
        let mut b = host.vm(2, "b", access(10)).await;
        let specs =
            [("a", &a), ("b", &b)].map(|(port, vm)| (port, host.spec(access(30), Some(vm.mac()))));
        let steps = specs.clone().map(|(port, spec)| Step {
            switch: switch(),
            write: host.set(port, spec),
        });
        let read = host.counts.sessions();
        let (tell, told) = oneshot::channel();
        *trap.lock().unwrap() = Some((cut, tell));
        let dies = async {
            told.await.unwrap();
            host.ovs.kill_db().unwrap();
        };
        let (applied, ()) = tokio::join!(host.datapath.apply(Arc::new(steps), Ports::new()), dies);
        let error = applied.steps.unwrap_err();
        assert!(error.to_string().contains("between.sock"), "{error}");
        host.ovs.start_db().unwrap();
        until("the database is read again", async || {
            host.datapath.read().await.is_ok()
        })
        .await;
        for (port, spec) in specs {
            assert_eq!(*host.there(port).await.unwrap().port, spec, "{cut:?}");
        }
        for vm in [&a, &b] {
            let tag = host.ovs.vsctl(&["get", "Port", vm.interface(), "tag"]);
            assert_eq!(tag.unwrap().trim(), "30", "{cut:?}");
        }
        assert!(reaches(&mut a, &mut b, 1), "{cut:?}");
        assert_eq!(host.counts.sessions() - read, 1, "{cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_restarts_drops_no_frame() {
    if skipped("an_agent_that_restarts_drops_no_frame") {
        return;
    }
    let mut host = Host::start().await;
    let a = host.vm(1, "a", access(10)).await;
    let b = host.vm(2, "b", access(10)).await;
    let (lost, _, mut a, mut b) = missing(a, b, QUICK, async || {
        host.restart_agent().await;
        host.datapath.read().await.unwrap();
    })
    .await;
    assert_eq!(lost, [0_u64; 0]);
    assert_eq!(
        (host.counts.transactions(), host.counts.programmes()),
        (0, 0)
    );
    assert!(reaches(&mut a, &mut b, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_restarts_forwards_again_by_itself() {
    if skipped("a_switch_that_restarts_forwards_again_by_itself") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    assert!(reaches(&mut a, &mut b, 1));
    for kill in [false, true] {
        let before = host.counts.transactions();
        if kill {
            host.ovs.kill_vswitchd().unwrap();
        } else {
            host.ovs.stop_vswitchd().unwrap();
        }
        host.ovs.start_vswitchd().unwrap();
        for _both_ways in 0..2 {
            b.drain();
            until("frames pass again", async || {
                a.send(&Frame::number(a.mac(), b.mac(), 9));
                b.next(Duration::from_millis(20)).is_some()
            })
            .await;
            std::mem::swap(&mut a, &mut b);
        }
        assert_eq!(
            host.counts.transactions(),
            before,
            "nothing in the database is to change"
        );
        let picture = host.datapath.read().await.unwrap();
        assert_eq!(picture[&switch()].ports.len(), 2);
    }
}

/// What of Open vSwitch is away as an agent starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    Database,
    Switch,
}

/// Waits until the datapath tells which switches are not in force and for which
/// reason, and that is as wanted.
async fn hear_force(host: &Host, wanted: impl Fn(&ConditionsNow) -> bool) {
    let heard = async {
        loop {
            if let Notice::Conditions { kind, now } = host.datapath.next_notice().await
                && kind == ConditionKind::NotInForce
                && wanted(&now)
            {
                return;
            }
        }
    };
    // Less than a change may take, for which nobody has to wait.
    timeout(Duration::from_secs(4), heard).await.unwrap();
}

/// Its ledger says what is to be in force. Nobody else knows.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_without_open_vswitch_says_so_until_it_is_there() {
    if skipped("an_agent_that_starts_without_open_vswitch_says_so_until_it_is_there") {
        return;
    }
    for away in [Away::Database, Away::Switch] {
        let mut host = Host::start().await;
        let mut a = host.vm(1, "a", access(10)).await;
        let mut b = host.vm(2, "b", access(10)).await;
        let wanted = Remembered {
            wanted: vec![Step {
                switch: switch(),
                write: Write::SetBridge {
                    from: None,
                    to: Arc::new(host.settings()),
                },
            }],
            ..Remembered::default()
        };
        host.kill_agent().await;
        host.ovs.kill_vswitchd().unwrap();
        // There is something to be written, and nobody who takes it.
        let words = ["--no-wait", "set", "Port", b.interface(), "tag=11"];
        host.ovs.vsctl(&words).unwrap();
        if away == Away::Database {
            host.ovs.kill_db().unwrap();
        }
        host.start_agent();
        host.datapath.resume(wanted).await;
        let read = async { host.datapath.read().await.unwrap_err() };
        let heard = hear_force(&host, |now| {
            let on = ConditionTarget {
                switch: Some(switch()),
                ..ConditionTarget::default()
            };
            let reason = match away {
                Away::Database => "db.sock can't be connected to",
                Away::Switch => "is ovs-vswitchd running?",
            };
            now.keys().eq([&on]) && now.values().all(|why| why.contains(reason))
        });
        tokio::join!(heard, read);
        if away == Away::Database {
            host.ovs.start_db().unwrap();
        }
        host.ovs.start_vswitchd().unwrap();
        // Nobody has to ask.
        until("frames pass", async || reaches(&mut a, &mut b, 1)).await;
        host.datapath.read().await.unwrap();
        hear_force(&host, ConditionsNow::is_empty).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_said_and_its_return_is_one_delta() {
    if skipped("a_database_that_goes_away_is_said_and_its_return_is_one_delta") {
        return;
    }
    let mut host = Host::start().await;
    let mut a = host.vm(1, "a", access(10)).await;
    let mut b = host.vm(2, "b", access(10)).await;
    let picture = host.datapath.read().await.unwrap();
    let before = host.counts.transactions();
    assert!(reaches(&mut a, &mut b, 1) && reaches(&mut b, &mut a, 2));
    // Open vSwitch leaves its ports alone while it has no database, and asks
    // for it after one second, two and four: at this pace the sockets hold
    // what waits.
    let pace = Duration::from_millis(50);
    let (lost, _, mut a, mut b) = missing(a, b, pace, async || {
        host.ovs.kill_db().unwrap();
        let error = host.datapath.read().await.unwrap_err();
        assert!(error.to_string().contains("db.sock"), "{error}");
        // What is asked for meanwhile is refused.
        let spec = host.spec(access(30), Some(Mac::numbered(1)));
        let step = [Step {
            switch: switch(),
            write: host.set("a", spec),
        }];
        let applied = host.datapath.apply(Arc::new(step), Ports::new()).await;
        applied.steps.unwrap_err();
        host.ovs.start_db().unwrap();
        loop {
            if let Notice::Disturbed = host.datapath.next_notice().await
                && let Ok(there) = host.datapath.read().await
            {
                assert_eq!(there, picture);
                break;
            }
        }
    })
    .await;
    assert_eq!(lost, [0_u64; 0]);
    assert_eq!(host.counts.transactions(), before);
    assert!(reaches(&mut b, &mut a, 3));
}
