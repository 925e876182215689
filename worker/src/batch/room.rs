//! Divides the room for deliveries in memory among the lanes, so that a lane whose batch is held
//! does not take the room of the others. Pure: `buffer` knows what each lane holds.

use std::collections::BTreeSet;

/// The room for deliveries in memory.
#[derive(Debug, Clone)]
pub struct Room {
    /// Deliveries from which on no more are taken in. A stuck lane counts with its share at most.
    pub deliveries_max: usize,
    /// The same limit, with all deliveries of stuck lanes.
    pub all_max: usize,
}

/// The deliveries of one lane in memory.
#[derive(Debug, Clone, Copy)]
pub struct LaneLoad {
    pub partition: i32,
    /// Waiting or in flight.
    pub deliveries: usize,
    /// Whether its batch makes no progress.
    pub is_stuck: bool,
}

impl Room {
    /// Returns the share of each of `lanes` lanes.
    fn share(&self, lanes: usize) -> usize {
        self.deliveries_max / lanes.max(1)
    }

    /// Returns the lanes to hold back: those that are stuck and have used up their share. A lane
    /// that makes progress frees its room by itself, so it may take more than its share.
    pub fn full_lanes(&self, loads: &[LaneLoad]) -> BTreeSet<i32> {
        let share = self.share(loads.len());
        let full = loads.iter().filter(|load| load.is_stuck && load.deliveries >= share);
        full.map(|load| load.partition).collect()
    }

    /// Returns whether more deliveries may be taken in.
    pub fn is_left(&self, loads: &[LaneLoad]) -> bool {
        let share = self.share(loads.len());
        let counted = |load: &LaneLoad| match load.is_stuck {
            true => load.deliveries.min(share),
            false => load.deliveries,
        };
        let all: usize = loads.iter().map(|load| load.deliveries).sum();
        loads.iter().map(counted).sum::<usize>() < self.deliveries_max && all < self.all_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room { deliveries_max: 100, all_max: 200 };

    /// Returns the lanes 0, 1, … with these deliveries, the stuck ones marked.
    fn loads(lanes: &[(usize, bool)]) -> Vec<LaneLoad> {
        let load = |(partition, (deliveries, is_stuck)): (i32, &(usize, bool))| LaneLoad {
            partition,
            deliveries: *deliveries,
            is_stuck: *is_stuck,
        };
        (0..).zip(lanes).map(load).collect()
    }

    #[test]
    fn only_a_stuck_lane_is_bounded_by_its_share() {
        for (lanes, full, is_left) in [
            (&[][..], &[][..], true),
            (&[(99, false)], &[], true),
            (&[(100, false)], &[], false),
            (&[(90, false), (9, false)], &[], true),
            // The excess of a stuck lane is not the others' loss, up to the limit for all.
            (&[(100, true), (0, false)], &[0], true),
            (&[(100, true), (50, false)], &[0], false),
            (&[(170, true), (29, false)], &[0], true),
            (&[(170, true), (30, false)], &[0], false),
            (&[(49, true), (0, false)], &[], true),
            // All are stuck: each gets its share, and then nothing.
            (&[(80, true), (20, true)], &[0], true),
            (&[(80, true), (50, true)], &[0, 1], false),
        ] {
            let loads = loads(lanes);
            let full: BTreeSet<i32> = full.iter().copied().collect();
            assert_eq!(ROOM.full_lanes(&loads), full, "{lanes:?}");
            assert_eq!(ROOM.is_left(&loads), is_left, "{lanes:?}");
        }
    }

    proptest! {
        #[test]
        fn stuck_lanes_leave_the_others_their_shares(
            lanes in prop::collection::vec((0_usize..60, any::<bool>()), 1..12),
        ) {
            let loads = loads(&lanes);
            let share = ROOM.share(loads.len());
            let flowing = loads.iter().filter(|load| !load.is_stuck);
            let (count, held) = flowing.fold((0, 0), |(count, held), load| {
                (count + 1, held + load.deliveries)
            });
            let all: usize = loads.iter().map(|load| load.deliveries).sum();
            if held < count * share && all < ROOM.all_max {
                prop_assert!(ROOM.is_left(&loads));
            }
            if all >= ROOM.all_max {
                prop_assert!(!ROOM.is_left(&loads));
            }
            let full = ROOM.full_lanes(&loads);
            for load in loads {
                let over = load.is_stuck && load.deliveries >= share;
                prop_assert_eq!(full.contains(&load.partition), over);
            }
        }
    }
}
