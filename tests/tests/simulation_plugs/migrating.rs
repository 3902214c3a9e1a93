// SPDX-License-Identifier: Apache-2.0
//! Machines that migrate while they run: their destination is plugged in before
//! they stop at the source, and the source's plug stays for a while, though its
//! agent starts anew. The port is where the machine runs, soon after it does,
//! with the collector away; and what is stopped takes it from nowhere.

use std::time::Duration;

use dvs_schemas::PortId;
use dvs_schemas::v1::{Activity, Machine};
use dvs_tests::simulation::laws;
use dvs_tests::simulation::operators::Operators;
use dvs_tests::simulation::weather::Weather;
use dvs_tests::simulation::world::{HOSTS, Place, Plug};

use super::{HEARD, Life, port, seeds, site};

/// How long after a machine runs on a host the port may be elsewhere, where no
/// message is lost: a claim, a word to the holder, a release and a push, and
/// what two datapaths take.
const SOON: Duration = Duration::from_secs(1);

/// Longer than any claim is repeated after.
const LONG: Duration = Duration::from_secs(130);

struct Migration {
    life: Life,
    port: PortId,
}

impl Migration {
    fn plug(&self) -> Plug {
        Plug {
            switch: "prod".parse().unwrap(),
            port: self.port.clone(),
            vnic: None,
        }
    }

    fn behaves(&mut self, host: usize, activity: Activity) {
        let machine = Machine {
            id: Some("vm-0".parse().unwrap()),
            activity,
        };
        let plug = self.plug();
        self.life.world.behaves(host, &plug, &machine);
    }

    /// Time passes, in which the collector is away and the rules hold.
    fn run(&mut self, within: Duration) {
        let until = self.life.world.now.after(within);
        while self.life.world.step(until) {
            self.life.world.cut(Place::Collector);
            self.life.hold(laws::one_owner_per_epoch(&self.life.world));
        }
    }

    /// The port is on the host, and wired there alone.
    fn is_on(&self, host: usize, when: &str) {
        let world = &self.life.world;
        let publisher = world.publisher.core().unwrap();
        let placed = &publisher.config().port(&self.port).unwrap().value;
        let wired = world.hosts.iter().filter(|machine| {
            let picture = machine.datapath.picture();
            picture
                .values()
                .any(|bridge| bridge.ports.contains_key(&self.port))
        });
        let wired: Vec<_> = wired.map(|machine| machine.name.clone()).collect();
        let name = world.hosts[host].name.clone();
        let found = (placed.document.host.clone(), wired);
        let seed = self.life.seed;
        assert_eq!(
            found,
            (Some(name.clone()), vec![name]),
            "DVS_SEED={seed}: {when}"
        );
    }

    /// A moment that a hypervisor may take.
    fn moment(&mut self) {
        let most = [50, 800, 4_000][self.life.random.usize(0..3)];
        let moment = Duration::from_millis(self.life.random.u64(0..most));
        self.run(moment);
    }
}

fn migrate(seed: u64) {
    let mut life = Life::new(seed);
    let mut operators = Operators::default();
    life.run(Duration::from_secs(5));
    operators.ask(&mut life.world, site());
    while !operators.listen(&mut life.world) {
        life.run(Duration::from_millis(100));
    }
    life.world.set_weather(Weather {
        delay: 100,
        repeat: 0.2,
        ..Weather::FAIR
    });
    let mut it = Migration {
        life,
        port: port(0),
    };
    let plug = it.plug();
    let source = it.life.random.usize(0..HOSTS);
    let destination = (source + it.life.random.usize(1..HOSTS)) % HOSTS;
    it.life.world.plug(source, &plug);
    it.behaves(source, Activity::Unknown);
    it.run(SOON + HEARD);
    it.is_on(source, "the machine starts");

    // It fails once, and the machine goes on where it was.
    it.life.world.plug(destination, &plug);
    it.behaves(destination, Activity::Unknown);
    it.moment();
    it.life.world.unplug(destination, &plug);
    it.run(SOON);
    it.is_on(source, "a migration has failed");

    it.life.world.plug(destination, &plug);
    it.behaves(destination, Activity::Unknown);
    it.moment();
    it.is_on(source, "it has not arrived yet");
    if it.life.random.bool() {
        // Long enough that the claim is repeated.
        it.run(LONG);
        it.is_on(source, "its migration takes long");
    }
    it.behaves(destination, Activity::Running);
    it.run(SOON);
    it.is_on(destination, "it has arrived");

    // The datapath there has the port now, and what stays at the source flaps.
    it.behaves(destination, Activity::Unknown);
    for _ in 0..3 {
        it.behaves(source, Activity::Stopped);
        it.moment();
        it.behaves(source, Activity::Unknown);
        it.moment();
        // So does the link of the living one, while the other is known to be stopped.
        it.behaves(destination, Activity::Stopped);
        it.moment();
        it.behaves(destination, Activity::Unknown);
    }
    it.run(LONG);
    it.is_on(destination, "what stays at the source is stopped");
    if it.life.random.bool() {
        // Its agent starts anew, and the row and the link are as ever.
        it.life.world.cut(Place::Host(source));
        it.run(LONG);
        it.is_on(destination, "the agent of the source has started anew");
        it.behaves(destination, Activity::Stopped);
        it.moment();
        it.behaves(destination, Activity::Unknown);
        it.run(SOON);
        it.is_on(destination, "its link has flapped after that");
    }
    if it.life.random.bool() {
        it.life.world.cut(Place::Publisher);
        it.run(LONG);
        it.is_on(destination, "the publisher has started anew");
    }

    // And back again, with the plug that is there still.
    it.behaves(destination, Activity::Unknown);
    it.behaves(source, Activity::Running);
    it.run(SOON);
    it.is_on(source, "it is back");
    it.life.world.unplug(destination, &plug);
    it.run(LONG);
    it.is_on(source, "its other plug is gone");
}

#[test]
fn a_port_is_where_its_machine_runs_and_what_is_stopped_takes_it_from_nowhere() {
    for seed in seeds(0).into_iter().take(40) {
        migrate(seed);
    }
}
