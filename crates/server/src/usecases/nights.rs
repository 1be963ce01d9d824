//! The nights of a lease from today on, packed as they are kept in memory: twelve bytes a night.

use jiff::ToSpan;
use jiff::civil::Date;
use nudge_engine::{UserId, days_between};
use nudge_store::{DatedNight, NightRow};

/// Days that are kept, today included. Other dates are read from the database.
const DAYS: usize = 120;

/// The nights of a lease on consecutive days.
#[derive(Debug, PartialEq, Eq)]
pub struct Nights {
    first: Date,
    cells: Box<[Cell]>,
    holders: Box<[UserId]>,
}

/// One day. Prices are above 0, so a price of 0 is a day without a night.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    price_cents: u32,
    demand_ten_thousandths: u32,
    /// Number of the holder in the list, counted from 1; 0 is nobody.
    holder: u8,
}

/// What a query finds in the nights of one lease.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The night on the target date.
    pub night: Option<NightRow>,
    /// The requester's own nights that could be offered.
    pub offerable: u32,
}

impl Nights {
    /// Gives the last of the days that are kept from `today` on.
    pub fn last_day(today: Date) -> Date {
        today.checked_add((DAYS as i64 - 1).days()).unwrap_or(Date::MAX)
    }

    /// Packs the nights from `today` on, or gives `None` where they do not fit.
    pub fn pack(today: Date, rows: Vec<DatedNight>) -> Option<Self> {
        let mut holders: Vec<UserId> = Vec::new();
        let mut cells = vec![Cell::default(); DAYS];
        for DatedNight { night, row } in rows {
            let cell = cells.get_mut(usize::try_from(days_between(today, night)).ok()?)?;
            let holder = match row.held_by {
                None => 0,
                Some(user) => match holders.iter().position(|known| *known == user) {
                    Some(known) => known + 1,
                    None => {
                        holders.push(user);
                        holders.len()
                    }
                },
            };
            *cell = Cell {
                price_cents: u32::try_from(row.base_price_cents).ok().filter(|price| *price > 0)?,
                demand_ten_thousandths: row.demand_ten_thousandths.try_into().ok()?,
                holder: holder.try_into().ok()?,
            };
        }
        Some(Self { first: today, cells: cells.into(), holders: holders.into() })
    }

    /// Answers a query of a requester, or gives `None` where it needs other days than those kept.
    pub fn find(&self, requester: &UserId, target: Date, today: Date, window_days: i64) -> Option<Found> {
        let target = usize::try_from(days_between(self.first, target)).ok()?;
        let today = usize::try_from(days_between(self.first, today)).ok()?;
        let window = usize::try_from(window_days).ok()?;
        let end = target.checked_add(window)?;
        let near = self.cells.get(target.saturating_sub(window).max(today + 1)..=end)?;
        let cell = self.cells.get(target)?;
        let me = 1 + self.holders.iter().position(|holder| holder == requester).unwrap_or(usize::MAX - 1);
        let held = near.iter().filter(|cell| usize::from(cell.holder) == me).count();
        let on_the_day = target > today && usize::from(cell.holder) == me;
        Some(Found {
            night: (cell.price_cents > 0).then(|| NightRow {
                held_by: self.holders.get(usize::from(cell.holder).wrapping_sub(1)).cloned(),
                base_price_cents: i64::from(cell.price_cents),
                demand_ten_thousandths: i64::from(cell.demand_ten_thousandths),
            }),
            offerable: u32::try_from(held - usize::from(on_the_day)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: i64) -> Date {
        jiff::civil::date(2026, 3, 1) + n.days()
    }

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn night(n: i64, held_by: Option<&str>) -> DatedNight {
        DatedNight {
            night: day(n),
            row: NightRow {
                held_by: held_by.map(user),
                base_price_cents: 10_000 + n,
                demand_ten_thousandths: 10_000,
            },
        }
    }

    #[test]
    fn a_query_finds_the_night_and_counts_what_could_be_offered() {
        let rows = [(0, "ann"), (1, "ann"), (2, "ann"), (3, "bob"), (5, "ann"), (6, "ann"), (8, "ann")];
        let nights = Nights::pack(day(0), rows.map(|(n, who)| night(n, Some(who))).into()).unwrap();
        let find = |who, target, today| nights.find(&user(who), day(target), day(today), 3).unwrap();
        // Days 1 to 6 around the third, after today, the third itself left out.
        assert_eq!(find("ann", 3, 0), Found { night: Some(night(3, Some("bob")).row), offerable: 4 });
        assert_eq!(find("ann", 3, 1).offerable, 3, "today is over");
        assert_eq!(find("ann", 5, 0).offerable, 3, "the date itself does not count: 2, 6 and 8");
        assert_eq!(find("ann", 4, 0).night, None);
        assert_eq!(find("eve", 3, 0).offerable, 0);
        assert_eq!(find("ann", 0, 0).offerable, 2, "the target is today");
    }

    #[test]
    fn other_days_than_those_kept_are_not_answered() {
        let nights = Nights::pack(day(0), vec![night(0, None)]).unwrap();
        let find = |target, today| nights.find(&user("ann"), day(target), day(today), 30);
        assert_eq!(find(-1, -1), None);
        assert_eq!(find(3, -1), None, "the day before is not known");
        let last = DAYS as i64 - 1;
        assert!(find(last - 30, 0).is_some());
        assert_eq!(find(last - 29, 0), None);
        assert_eq!(find(0, 0), Some(Found { night: Some(night(0, None).row), offerable: 0 }));
        assert_eq!(Nights::last_day(day(0)), day(last));
    }

    #[test]
    fn what_does_not_fit_is_not_packed() {
        assert_eq!(Nights::pack(day(0), vec![night(-1, None)]), None);
        assert_eq!(Nights::pack(day(0), vec![night(DAYS as i64, None)]), None);
        let crowd = (0..300).map(|n| night(n % 100, Some(&format!("user-{n}")))).collect();
        assert_eq!(Nights::pack(day(0), crowd), None);
    }
}
