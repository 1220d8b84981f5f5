//! A fleet of devices for load and measurement: [`device`] is one of them, [`drive`] lets many of them
//! poll at once over few sockets, [`report`] tells what came of it. The program is `fleet`.

pub mod device;
pub mod drive;
pub mod report;
