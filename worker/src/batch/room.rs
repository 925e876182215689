//! Divides the room for deliveries in memory among the lanes, so that a lane whose batch is held
//! does not take the room of the others. Pure: `buffer` knows what each lane holds.

use std::collections::BTreeSet;

use ljwx_ledger::group::delivery::DeliveryLoad;

/// The room for deliveries in memory.
#[derive(Debug, Clone)]
pub struct Room {
    /// Load from which on no more is taken in. A stuck lane counts with its share at most.
    pub max: DeliveryLoad,
    /// The same limit, with all deliveries of stuck lanes.
    pub all_max: DeliveryLoad,
}

/// The deliveries of one lane in memory.
#[derive(Debug, Clone, Copy)]
pub struct LaneLoad {
    pub partition: i32,
    /// Waiting or in flight.
    pub load: DeliveryLoad,
    /// Whether its batch makes no progress.
    pub is_stuck: bool,
}

impl Room {
    /// Returns the share of each of `lanes` lanes.
    fn share(&self, lanes: usize) -> DeliveryLoad {
        let lanes = lanes.max(1);
        DeliveryLoad { deliveries: self.max.deliveries / lanes, bytes: self.max.bytes / lanes }
    }

    /// Returns the lanes to hold back: those that are stuck and have used up their share. A lane
    /// that makes progress frees its room by itself, so it may take more than its share.
    pub fn full_lanes(&self, lanes: &[LaneLoad]) -> BTreeSet<i32> {
        let share = self.share(lanes.len());
        let full = lanes.iter().filter(|lane| lane.is_stuck && lane.load.reaches(share));
        full.map(|lane| lane.partition).collect()
    }

    /// Returns whether more deliveries may be taken in.
    pub fn is_left(&self, lanes: &[LaneLoad]) -> bool {
        let share = self.share(lanes.len());
        let counted = |lane: &LaneLoad| match lane.is_stuck {
            true => lane.load.at_most(share),
            false => lane.load,
        };
        let all: DeliveryLoad = lanes.iter().map(|lane| lane.load).sum();
        let counted: DeliveryLoad = lanes.iter().map(counted).sum();
        !counted.reaches(self.max) && !all.reaches(self.all_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room {
        max: DeliveryLoad { deliveries: 100, bytes: 1000 },
        all_max: DeliveryLoad { deliveries: 200, bytes: 2000 },
    };

    /// Returns the lanes 0, 1, … with these deliveries and bytes, the stuck ones marked.
    fn lanes(loads: &[(usize, usize, bool)]) -> Vec<LaneLoad> {
        let lane = |(partition, load): (i32, &(usize, usize, bool))| {
            let (deliveries, bytes, is_stuck) = *load;
            LaneLoad { partition, load: DeliveryLoad { deliveries, bytes }, is_stuck }
        };
        (0..).zip(loads).map(lane).collect()
    }

    /// Returns whether the room has these full lanes, and whether some is left.
    fn found(loads: &[(usize, usize, bool)]) -> (Vec<i32>, bool) {
        let lanes = lanes(loads);
        (ROOM.full_lanes(&lanes).into_iter().collect(), ROOM.is_left(&lanes))
    }

    #[test]
    fn only_a_stuck_lane_is_bounded_by_its_share() {
        for (loads, full, is_left) in [
            (&[] as &[(usize, bool)], &[] as &[i32], true),
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
            // The same holds for the number and for the memory, each without the other.
            let of_number: Vec<_> = loads.iter().map(|(load, stuck)| (*load, 0, *stuck)).collect();
            let of_memory: Vec<_> =
                loads.iter().map(|(load, stuck)| (0, load * 10, *stuck)).collect();
            assert_eq!(found(&of_number), (full.to_vec(), is_left), "{loads:?}");
            assert_eq!(found(&of_memory), (full.to_vec(), is_left), "{loads:?} in bytes");
        }
    }

    #[test]
    fn a_few_large_deliveries_fill_the_room_as_many_small_ones_do() {
        assert_eq!(found(&[(3, 999, false)]), (vec![], true));
        assert_eq!(found(&[(3, 1000, false)]), (vec![], false));
        assert_eq!(found(&[(3, 500, true), (10, 100, false)]), (vec![0], true));
        assert_eq!(found(&[(3, 1900, true), (10, 100, false)]), (vec![0], false));
    }

    proptest! {
        #[test]
        fn stuck_lanes_leave_the_others_their_shares(
            loads in prop::collection::vec((0_usize..60, 0_usize..600, any::<bool>()), 1..12),
        ) {
            let lanes = lanes(&loads);
            let share = ROOM.share(lanes.len());
            let flowing: Vec<_> = lanes.iter().filter(|lane| !lane.is_stuck).collect();
            let held: DeliveryLoad = flowing.iter().map(|lane| lane.load).sum();
            let all: DeliveryLoad = lanes.iter().map(|lane| lane.load).sum();
            let shares = DeliveryLoad {
                deliveries: share.deliveries * flowing.len(),
                bytes: share.bytes * flowing.len(),
            };
            if !held.reaches(shares) && !all.reaches(ROOM.all_max) {
                prop_assert!(ROOM.is_left(&lanes));
            }
            if all.reaches(ROOM.all_max) {
                prop_assert!(!ROOM.is_left(&lanes));
            }
            let full = ROOM.full_lanes(&lanes);
            for lane in &lanes {
                let over = lane.is_stuck && lane.load.reaches(share);
                prop_assert_eq!(full.contains(&lane.partition), over);
            }
        }
    }
}
