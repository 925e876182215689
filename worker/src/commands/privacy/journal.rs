//! Finds the lines of a device in the alerter's journal, and takes them out. Pure.
//!
//! A line has words: the device, when it was seen, tenant, organisation, user, and times. `=` is the
//! word of the line before. `engine::journal` of the alerter writes the lines.

use super::subject::Scope;

/// The place of the user among the words of a line.
const USER: usize = 4;

/// Returns the lines of a row that are meant, without reference to the line before.
pub fn lines(entry: &str, scope: &Scope) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = Vec::new();
    for line in entry.lines() {
        let words = whole(line, &before);
        if is_of(&words, scope) {
            found.push(words.join(" "));
        }
        before = words;
    }
    found
}

/// Returns a row without the lines that are meant, and the number of its other lines. `None`: the row
/// has no such line.
pub fn without(entry: &str, scope: &Scope) -> Option<(String, usize)> {
    let (mut kept, mut lines) = (String::with_capacity(entry.len()), 0);
    let (mut before, mut is_found, mut is_after) = (Vec::new(), false, false);
    for line in entry.lines() {
        let words = whole(line, &before);
        let is_meant = is_of(&words, scope);
        if !is_meant {
            // Behind a line that is gone, a line may refer to what is gone.
            kept.push_str(&if is_after { words.join(" ") } else { line.to_owned() });
            kept.push('\n');
            lines += 1;
        }
        (is_after, is_found) = (is_meant, is_found || is_meant);
        before = words;
    }
    is_found.then_some((kept, lines))
}

/// Returns whose lines go, by the row that has the device's last line.
///
/// If the last line names the user, all lines of the device go. The alerter would take an earlier
/// one for the last, and notify that a former wearer's device is missing.
pub fn erased_with(last_row: &str, scope: &Scope) -> Scope {
    let device = Scope { user_id: None, ..scope.clone() };
    let is_last = lines(last_row, scope).last() == lines(last_row, &device).last();
    if is_last { device } else { scope.clone() }
}

/// Returns the words of a line, without reference to the line before.
fn whole<'a>(line: &'a str, before: &[&'a str]) -> Vec<&'a str> {
    let words = line.split(' ').enumerate();
    words
        .map(|(place, word)| match before.get(place) {
            Some(&earlier) if word == "=" => earlier,
            _ => word,
        })
        .collect()
}

fn is_of(words: &[&str], scope: &Scope) -> bool {
    let user: Option<i64> = words.get(USER).and_then(|word| word.parse().ok());
    words.first() == Some(&scope.device_sn.as_str())
        && scope.user_id.is_none_or(|user_id| user == Some(user_id))
}

#[cfg(test)]
mod tests {
    use ljwx_reading::DeviceSn;

    use super::*;

    const ENTRY: &str = "A1 100 7 - 1 5*41,60*0\nA2 = = = 2 -\nA3 = 8 = = 5*41\nA2 101 - - 9 7*1\n";

    fn scope(device_sn: &str, user_id: Option<i64>) -> Scope {
        Scope { device_sn: DeviceSn::new(device_sn).unwrap(), user_id }
    }

    #[test]
    fn a_line_is_taken_out_and_the_line_behind_it_says_all_by_itself() {
        for (device, user, found, left, count) in [
            (
                "A1",
                None,
                &["A1 100 7 - 1 5*41,60*0"][..],
                "A2 100 7 - 2 -\nA3 = 8 = = 5*41\nA2 101 - - 9 7*1\n",
                3,
            ),
            (
                "A2",
                None,
                &["A2 100 7 - 2 -", "A2 101 - - 9 7*1"],
                "A1 100 7 - 1 5*41,60*0\nA3 100 8 - 2 5*41\n",
                2,
            ),
            (
                "A2",
                Some(2),
                &["A2 100 7 - 2 -"],
                "A1 100 7 - 1 5*41,60*0\nA3 100 8 - 2 5*41\nA2 101 - - 9 7*1\n",
                3,
            ),
        ] {
            let scope = scope(device, user);
            assert_eq!(lines(ENTRY, &scope), found);
            assert_eq!(without(ENTRY, &scope), Some((left.to_owned(), count)));
        }
    }

    #[test]
    fn a_user_who_wore_the_device_last_takes_all_its_lines_along() {
        for (device, user, goes) in
            [("A2", 9, None), ("A2", 2, Some(2)), ("A1", 1, None), ("A1", 2, Some(2))]
        {
            assert_eq!(erased_with(ENTRY, &scope(device, Some(user))), scope(device, goes));
        }
        assert_eq!(erased_with(ENTRY, &scope("A2", None)), scope("A2", None));
    }

    #[test]
    fn a_row_without_such_a_line_stays_as_it_is() {
        for (device, user) in [("A", None), ("A11", None), ("A1", Some(2)), ("a1", None)] {
            let scope = scope(device, user);
            assert!(lines(ENTRY, &scope).is_empty(), "{device} {user:?}");
            assert_eq!(without(ENTRY, &scope), None, "{device} {user:?}");
        }
        assert_eq!(without("", &scope("A1", None)), None);
        assert_eq!(without("A1 5 - - - -", &scope("A1", None)), Some((String::new(), 0)));
    }

    #[test]
    fn what_cannot_be_read_stays() {
        let entry = "A1 5 - - 1 -\n\nA9 x\nA2 = = = = = =\n";
        let (left, count) = without(entry, &scope("A1", None)).unwrap();
        assert_eq!((left.as_str(), count), ("\nA9 x\nA2 = = = = = =\n", 3));
    }
}
