//! From the options to the crew: every place is opened, or somebody looks for it.

use applet::nvm::WrapKey;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reader_bridge::{
    card::{self, CardPort, CardSpec, OpenError, pcsc::PcscPort, vpcd::Slots},
    report::Reporter,
    terminal::{Crew, find},
};

use super::{exit::Failure, options::Cards};

/// A place that is open.
pub(super) enum Place {
    /// For one card at a time.
    One(Box<dyn CardPort>),
    /// For any number of virtual cards.
    Many(Slots),
}

/// Opens the places that are no PC/SC readers. Needs the rights of whoever may read the images.
pub(super) fn open(cards: &Cards, once: bool) -> Result<Vec<Option<Place>>, Failure> {
    allow_many_files();
    let image_key = cards.image_key()?;
    let open = |spec: &CardSpec| {
        Ok(match spec {
            CardSpec::AnyReader | CardSpec::Reader(_) => None,
            CardSpec::Vpcd(port) if !once => {
                let slots = Slots::listen(*port, cards.limit(), cards.card_timeout);
                Some(Place::Many(slots.map_err(OpenError::from)?))
            }
            spec => {
                let options = card::Options {
                    image_key: image_key.as_ref().map(WrapKey::new),
                    command_timeout: cards.card_timeout,
                };
                Some(Place::One(card::open(spec, options)?))
            }
        })
    };
    cards.card.iter().map(open).collect()
}

/// Puts a terminal at each place, in the order of the options. What is not open yet is a PC/SC reader.
pub(super) fn man<'a>(
    crew: &mut Crew<'a>,
    cards: &'a Cards,
    places: Vec<Option<Place>>,
    reporter: &'a dyn Reporter,
) -> Result<(), Failure> {
    let mut finders = Vec::new();
    for (spec, place) in cards.card.iter().zip(places) {
        match place {
            None => crew.serve(reader(spec, cards)?)?,
            Some(Place::One(port)) => crew.serve(port)?,
            Some(Place::Many(slots)) => {
                crew.serve(Box::new(slots.first()))?;
                finders.push(find::virtual_cards(slots, reporter));
            }
        }
    }
    if cards.all_readers {
        let wanted = |reader: &str| cards.wants(reader);
        finders.push(find::readers(cards.sharing(), wanted, reporter));
    }
    finders.into_iter().for_each(|finder| crew.find(finder));
    Ok(())
}

fn reader(spec: &CardSpec, cards: &Cards) -> Result<Box<dyn CardPort>, Failure> {
    let name = match spec {
        CardSpec::Reader(name) => Some(name.clone()),
        _ => None,
    };
    let port = PcscPort::new(name, cards.sharing()).map_err(OpenError::from)?;
    Ok(Box::new(port))
}

/// Each card takes several descriptors; many systems allow 1,024 of them unless asked. What is not allowed is told when
/// it is missed.
fn allow_many_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
