// SPDX-License-Identifier: Apache-2.0
//! From plug to wired: through the agent, and by hand.

mod by_hand;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dvs_ovsdb::{Cache, Datum, Mutator, Row, Session, Transaction, Wanted};
use serde_json::{Value, json};
use uuid::Uuid;

use self::by_hand::ByHand;
use super::{PATIENCE, say, start};
use crate::fleet::Fleet;
use crate::lan::{AgentHost, Frame, Mac, Vm};
use crate::load::report::{Figure, Samples};

/// A bridge that forwards as Open vSwitch does by itself.
const PLAIN: &str = "plain";

/// Measures it.
pub(super) async fn run(rounds: u32) -> Result<Vec<Figure>> {
    let (fleet, host) = start().await?;
    let port = |name: &str| json!({"kind": "Port", "name": name, "switch": "prod", "group": "web"});
    fleet
        .operator()
        .apply(&json!([port("a"), port("b")]))
        .await?;
    let [mut a, mut b, mut c, mut d] = [1, 2, 3, 4].map(|number| Vm::start(Mac::numbered(number)));
    for vm in [&a, &b, &c, &d] {
        vm.wire_to(host.ovs.namespace());
    }
    let kind = ["--", "set", "Bridge", PLAIN, "datapath_type=netdev"];
    host.ovs
        .vsctl(&[["add-br", PLAIN].as_slice(), &kind].concat())?;
    let mut plugs = Plugs::open(&host).await?;
    plugs.plug(&host.bridge, &a, "a").await?;
    plugs.plug(PLAIN, &c, "c").await?;
    placed(&fleet, "a", Some("left")).await?;
    let mut by_hand = ByHand::start().await?;
    say(&format!("machines are plugged in, {rounds} rounds"));
    let [mut waiting, mut claimed, mut floor, mut plain] = [(); 4].map(|()| Samples::default());
    for _ in 0..rounds {
        // Nobody has said yet that it is to be here.
        claimed.push(plugs.wired(&host.bridge, (&mut b, "b"), &mut a).await?);
        placed(&fleet, "b", Some("left")).await?;
        host.unplug(&b);
        placed(&fleet, "b", None).await?;
        // An operator has.
        let mut document = port("b");
        document["host"] = json!("left");
        fleet
            .operator()
            .apply_and_wait(json!([document]), "20s")
            .await?;
        waiting.push(plugs.wired(&host.bridge, (&mut b, "b"), &mut a).await?);
        host.unplug(&b);
        placed(&fleet, "b", None).await?;
        let (back, took) = by_hand.round().await?;
        by_hand = back;
        floor.push(took);
        plain.push(plugs.wired(PLAIN, (&mut d, "d"), &mut c).await?);
        host.ovs.vsctl(&["del-port", PLAIN, d.interface()])?;
    }
    let milliseconds = plain.median().as_secs_f64() * 1_000.0;
    say(&format!(
        "a bridge without any rules, where nothing is to be refused: {milliseconds:.2} ms"
    ));
    let figure = |what: &str, took: &Samples| {
        let against = "the same rows and rules by hand, until frames pass";
        Figure::times(what, took, against, &floor, 1.5)
    };
    Ok(vec![
        figure("plug to wired, the port is placed here", &waiting),
        figure("plug to wired, the port is claimed first", &claimed),
    ])
}

/// Waits until the store has a port there.
async fn placed(fleet: &Fleet, port: &str, host: Option<&str>) -> Result<()> {
    let there = |objects: &Vec<Value>| {
        objects.iter().any(|object| {
            let document = &object["document"];
            document["kind"] == "Port"
                && document["name"] == *port
                && document["host"].as_str() == host
        })
    };
    let what = format!("port {port} on {host:?}");
    let objects = async |operator: &crate::operator::Operator| operator.objects().await;
    fleet.until(&what, objects, there).await?;
    Ok(())
}

/// The one row of the database's root.
fn root(cache: &Cache) -> Result<Uuid> {
    let root = cache.table("Open_vSwitch").keys().next().copied();
    root.context("no row in Open_vSwitch")
}

/// The row of this name.
fn named<'a>(cache: &'a Cache, table: &str, name: &str) -> Result<(Uuid, &'a Row)> {
    let mut rows = cache.table(table).iter();
    let found = rows.find(|(_, row)| row.str("name") == Some(name));
    let (uuid, row) = found.with_context(|| format!("no row {name} in {table}"))?;
    Ok((*uuid, row))
}

/// The transaction that plugs an interface into a bridge.
fn plug(cache: &Cache, bridge: &str, port: Row, interface: Row) -> Result<Transaction> {
    let mut transaction = Transaction::new();
    let interface = transaction.insert("Interface", interface);
    let mut row = port;
    row.set("interfaces", interface);
    let row = Datum::from(transaction.insert("Port", row));
    let (bridge, _) = named(cache, "Bridge", bridge)?;
    transaction.mutate("Bridge", bridge, "ports", Mutator::Insert, row);
    transaction.bump_next_cfg(root(cache)?);
    Ok(transaction)
}

/// How long it takes since `began` until one machine hears another, which sends
/// all the time. `sent` numbers the frames.
fn heard(began: Instant, vm: &mut Vm, hears: &mut Vm, sent: &mut u64) -> Result<Duration> {
    let first = *sent;
    while began.elapsed() < PATIENCE {
        *sent += 1;
        vm.send(&Frame::number(vm.mac(), hears.mac(), *sent));
        let heard = hears.next(Duration::from_micros(500));
        let ours = |number| Frame::number(vm.mac(), hears.mac(), number);
        if heard.is_some_and(|heard| (first + 1..=*sent).any(|n| ours(n) == heard)) {
            return Ok(began.elapsed());
        }
    }
    bail!("no frame of {} has passed", vm.interface())
}

/// Plugs machines in without a word more than that takes.
struct Plugs {
    session: Session,
    sent: u64,
}

impl Plugs {
    async fn open(host: &AgentHost) -> Result<Self> {
        let wanted = Wanted::new()
            .table("Open_vSwitch", ["next_cfg", "cur_cfg"])
            .table("Bridge", ["name"]);
        let session = Session::open(&host.ovs.options(wanted)).await?;
        Ok(Self { session, sent: 0 })
    }

    async fn plug(&mut self, bridge: &str, vm: &Vm, port: &str) -> Result<()> {
        self.session.catch_up().await?;
        let name = vm.interface();
        let row = Row::from_iter([("name", Datum::from(name))]);
        let interface = Row::from_iter([
            ("name", Datum::from(name)),
            ("external_ids", Datum::map([("iface-id", port)])),
        ]);
        let transaction = plug(self.session.cache(), bridge, row, interface)?;
        self.session.transact(&transaction).await?;
        Ok(())
    }

    /// How long it takes from the plug until another machine hears this one.
    async fn wired(
        &mut self,
        bridge: &str,
        (vm, port): (&mut Vm, &str),
        hears: &mut Vm,
    ) -> Result<Duration> {
        hears.drain();
        let began = Instant::now();
        self.plug(bridge, vm, port).await?;
        heard(began, vm, hears, &mut self.sent)
    }
}
