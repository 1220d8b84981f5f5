//! A fleet against the real server in this process, over a link that loses and doubles datagrams.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::{fmt::Write, sync::atomic::AtomicBool, time::Duration};

use bench::{
    device::{Device, Fleet},
    drive::{Drive, Faults, Plan},
    report::Counts,
};
use gts_mock::{Server, import::import};
use protocol::{identity::Mode, msg::Object};

const DEVICES: u32 = 200;
const MESSAGES: u64 = 20;

struct World {
    server: Server,
    devices: Vec<Device>,
    _store: tempfile::TempDir,
}

impl World {
    fn new(mode: Mode) -> Self {
        let store = tempfile::tempdir().unwrap();
        let server = Server::builder(store.path())
            .listen(([127, 0, 0, 1], 0).into())
            .start()
            .unwrap();
        let fleet = Fleet::new(7, mode);
        let mut csv = String::from("reference,iccid,key,mode,first_identity\n");
        let mut devices = Vec::new();
        for number in 0..DEVICES {
            let profile = fleet.profile(number);
            let key = hex::encode(profile.k.as_bytes());
            let (reference, iccid) = (&profile.reference, &profile.iccid);
            writeln!(csv, "{reference},{iccid},{key},{},iccid", mode.byte()).unwrap();
            devices.push(Device::from(&profile));
        }
        import(server.core(), csv.as_bytes()).unwrap();
        Self {
            server,
            devices,
            _store: store,
        }
    }

    fn drive(&mut self, exchanges: u64, faults: Faults) -> Counts {
        let plan = Plan {
            server: self.server.local_addr(),
            in_flight: 50,
            rate: None,
            exchanges: Some(exchanges),
            duration: None,
            timeout: Duration::from_millis(200),
            attempts: 1000,
            faults,
            seed: 3,
        };
        let mut drive = Drive::new(plan, &mut self.devices).unwrap();
        drive.run(&AtomicBool::new(false), |_| {}).unwrap();
        drive.report.counts.clone()
    }
}

#[test]
fn every_device_stays_in_step_over_a_bad_link_and_executes_each_message_once() {
    for mode in 0..=3 {
        let mut world = World::new(Mode::from_byte(mode).unwrap());
        for number in 0..MESSAGES {
            let reference = format!("fleet-{number}");
            world
                .server
                .core()
                .queue(&reference, &[Object::UpdateAvailable(None)], None)
                .unwrap();
        }
        let faults = Faults {
            lose_up: 20,
            lose_down: 20,
            duplicate: 20,
        };
        let lossy = world.drive(3 * u64::from(DEVICES), faults);
        assert!(lossy.lost_up > 0 && lossy.lost_down > 0 && lossy.resends > 0);
        let calm = world.drive(2 * u64::from(DEVICES), Faults::default());
        assert_eq!(lossy.messages + calm.messages, MESSAGES);
        assert_eq!((lossy.given_up, calm.given_up), (0, 0));
        assert_eq!((lossy.impossible_sent, calm.impossible_sent), (0, 0));
        let counters = world.server.core().engine().counters.clone();
        assert_eq!(counters.delivered, MESSAGES);
        assert!(counters.quality.answers_lost > 0 && counters.quality.polls_lost > 0);
        world.server.stop().unwrap();
    }
}
