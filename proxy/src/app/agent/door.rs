//! Who may come in to a destination, and who is in already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::callers::Trace;
use crate::lifecycle::drain::{Drain, DrainWatch};
use crate::resolve::scope::{Audience, Caller, Refused};

/// The door of one destination. Its connections are kept apart by the namespace that they come
/// from, so that those of one namespace can be ended alone.
#[derive(Debug)]
pub(super) struct Door {
    drain: Drain,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    audience: Audience,
    rooms: HashMap<Room, Drain>,
}

/// Callers that may or may not come in together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Room {
    Namespace(Arc<str>),
    PortForward,
    /// Nobody had to know who it is.
    Unknown(Trace),
}

impl Door {
    /// Connections end with `drain`, too.
    pub(super) fn new(audience: Audience, drain: Drain) -> Self {
        Self {
            drain,
            state: Mutex::new(State {
                audience,
                rooms: HashMap::new(),
            }),
        }
    }

    /// Decides about a connection; it lives no longer than what this gives says.
    pub(super) fn admit(&self, trace: Trace, caller: &Caller) -> Result<DrainWatch, Refused> {
        let mut state = self.state();
        state.audience.admits(caller)?;
        let room = Room::of(trace, caller);
        if let Some(drain) = state.rooms.get(&room) {
            return Ok(drain.watch());
        }
        // Where nobody is any more, nobody needs to be told.
        state.rooms.retain(|_, drain| drain.held() > 0);
        let drain = self.drain.child();
        let watch = drain.watch();
        state.rooms.insert(room, drain);
        Ok(watch)
    }

    pub(super) fn audience(&self) -> Audience {
        self.state().audience.clone()
    }

    /// Connections that are in.
    pub(super) fn open(&self) -> usize {
        self.state().rooms.values().map(Drain::held).sum()
    }

    /// Says goodbye to those who are in and may not be any more; the others notice nothing.
    /// About those that this gives somebody has to [`decide`](Self::decide).
    pub(super) fn open_to(&self, audience: &Audience) -> Vec<Trace> {
        let mut state = self.state();
        state.audience = audience.clone();
        let mut undecided = Vec::new();
        state.rooms.retain(|room, drain| match room.is_for(audience) {
            Some(true) => true,
            Some(false) => {
                drain.revoke();
                false
            }
            None => {
                undecided.extend(room.trace());
                true
            }
        });
        undecided
    }

    /// Now it is known who was in without being known, or that it stays unknown.
    pub(super) fn decide(&self, trace: Trace, caller: &Caller) {
        let mut state = self.state();
        if state.audience.admits(caller).is_err()
            && let Some(drain) = state.rooms.remove(&Room::Unknown(trace))
        {
            drain.revoke();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn of(trace: Trace, caller: &Caller) -> Self {
        match caller {
            Caller::Pod(pod) => Self::Namespace(Arc::clone(&pod.namespace)),
            Caller::PortForward => Self::PortForward,
            Caller::Unknown(_) => Self::Unknown(trace),
        }
    }

    /// `None` where that has to be found out.
    fn is_for(&self, audience: &Audience) -> Option<bool> {
        match (audience, self) {
            (Audience::Cluster, _) | (_, Self::PortForward) => Some(true),
            (Audience::Namespace(only), Self::Namespace(namespace)) => Some(only == namespace),
            (Audience::Namespace(_), Self::Unknown(_)) => None,
        }
    }

    fn trace(&self) -> Option<Trace> {
        match self {
            Self::Unknown(trace) => Some(*trace),
            Self::Namespace(_) | Self::PortForward => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::pods::testing::pod_in;
    use crate::resolve::scope::Unknown;

    fn from(namespace: &str) -> Caller {
        Caller::Pod(Arc::new(pod_in(namespace)))
    }

    fn shop() -> Audience {
        Audience::Namespace("shop".into())
    }

    const TRACE: Trace = Trace::Cgroup(7);
    const OTHER: Trace = Trace::Cgroup(8);

    #[tokio::test]
    async fn only_those_who_lose_their_right_have_to_go() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let admit = |caller: &Caller| door.admit(TRACE, caller).unwrap();
        let of_shop = admit(&from("shop"));
        let of_bank = admit(&from("bank"));
        let forwarded = admit(&Caller::PortForward);
        assert!(door.open_to(&shop()).is_empty());
        for (watch, goes) in [(of_shop, false), (of_bank, true), (forwarded, false)] {
            assert_eq!((watch.is_draining(), watch.is_revoked()), (goes, goes));
            assert!(!watch.is_cut(), "answers are finished");
        }
        let again = door.admit(TRACE, &from("bank"));
        assert_eq!(again.unwrap_err(), Refused::OtherNamespace);
    }

    #[tokio::test]
    async fn who_was_not_known_is_looked_up_before_it_has_to_go() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let unknown = Caller::Unknown(Unknown::Pod);
        let of_shop = door.admit(TRACE, &unknown).unwrap();
        let of_bank = door.admit(OTHER, &unknown).unwrap();
        let mut undecided = door.open_to(&shop());
        undecided.sort();
        assert_eq!(undecided, [TRACE, OTHER]);
        assert!(!of_shop.is_revoked() && !of_bank.is_revoked());
        door.decide(TRACE, &from("shop"));
        door.decide(OTHER, &from("bank"));
        assert!(!of_shop.is_revoked());
        assert!(of_bank.is_revoked());
    }

    #[tokio::test]
    async fn who_stays_unknown_has_to_go_unless_the_door_is_open_again() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let unknown = Caller::Unknown(Unknown::SharedAddress);
        let watch = door.admit(TRACE, &unknown).unwrap();
        door.open_to(&shop());
        door.open_to(&Audience::Cluster);
        door.decide(TRACE, &unknown);
        assert!(!watch.is_revoked());
        door.open_to(&shop());
        door.decide(TRACE, &unknown);
        assert!(watch.is_revoked());
    }

    #[tokio::test]
    async fn who_comes_back_after_the_door_was_opened_again_stays() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        let _before = door.admit(TRACE, &from("bank")).unwrap();
        door.open_to(&shop());
        door.open_to(&Audience::Cluster);
        assert!(!door.admit(TRACE, &from("bank")).unwrap().is_draining());
    }

    #[tokio::test]
    async fn the_end_of_the_destination_ends_them_all_and_waits_for_them() {
        let whole = Drain::new();
        let door = Door::new(shop(), whole.clone());
        let watch = door.admit(TRACE, &from("shop")).unwrap();
        whole.start();
        assert!(watch.is_draining());
        assert_eq!(whole.held(), 1);
        drop(watch);
        assert_eq!(whole.held(), 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_namespaces_that_have_no_connection_any_more() {
        let whole = Drain::new();
        let door = Door::new(Audience::Cluster, whole.clone());
        for namespace in ["a", "b", "c"] {
            drop(door.admit(TRACE, &from(namespace)).unwrap());
        }
        assert_eq!(door.state().rooms.len(), 1);
    }
}
