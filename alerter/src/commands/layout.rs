//! Prints tables, and text in columns that is no wider than a terminal.

use std::io::{self, Write};

use ljwx_service::text::{Align, one_line, table_of};

/// Width of the terminal, in columns.
const WIDTH: usize = 100;

/// Least width of the last column, even if the others leave less.
const LAST_MIN: usize = 30;

/// Gap between two columns.
const GAP: &str = "  ";

/// A column of a table: its head, its alignment, and the text of a row's cell.
pub type Column<'a, T> = (&'static str, Align, &'a dyn Fn(&T) -> String);

/// A column whose cells have several lines: its head, and the lines of a row's cell.
pub type WrappedColumn<'a, T> = (&'a str, &'a dyn Fn(&T) -> Vec<String>);

/// Prints a table with a line for each row, below the heads.
pub fn table<T, const N: usize>(
    rows: &[T],
    columns: [Column<'_, T>; N],
    out: &mut impl Write,
) -> io::Result<()> {
    let heads = columns.map(|(head, ..)| head.to_owned());
    let cells = rows.iter().map(|row| columns.map(|(.., cell)| cell(row)));
    let lines: Vec<[String; N]> = std::iter::once(heads).chain(cells).collect();
    table_of(columns.map(|(_, side, _)| side), &lines, out)
}

/// Prints a table of columns for text, and a last column, whose cells have several lines, which are
/// wrapped at spaces.
pub fn wrapped_table<T, const N: usize>(
    rows: &[T],
    columns: [Column<'_, T>; N],
    (last, lines): WrappedColumn<'_, T>,
    out: &mut impl Write,
) -> io::Result<()> {
    let heads = (columns.map(|(head, ..)| head.to_owned()), vec![last.to_owned()]);
    let cells = rows.iter().map(|row| (columns.map(|(.., cell)| cell(row)), lines(row)));
    let rows: Vec<([String; N], Vec<String>)> = std::iter::once(heads).chain(cells).collect();
    let widest = |column: usize| rows.iter().map(|(cells, _)| width(&cells[column])).max();
    let widths: [usize; N] = std::array::from_fn(|column| widest(column).unwrap_or_default());
    let before: usize = widths.iter().map(|width| width + GAP.len()).sum();
    let room = WIDTH.saturating_sub(before).max(LAST_MIN);
    for (cells, lines) in &rows {
        let mut ahead = String::new();
        for (cell, widest) in cells.iter().zip(widths) {
            ahead.push_str(&one_line(cell));
            ahead.extend(std::iter::repeat_n(' ', widest - width(cell)));
            ahead.push_str(GAP);
        }
        for line in lines.iter().flat_map(|line| wrapped(line, room)) {
            writeln!(out, "{ahead}{}", one_line(&line))?;
            ahead = " ".repeat(before);
        }
    }
    Ok(())
}

/// Wraps `text` into lines of at most `room` columns. Longer words stay whole.
pub fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if width(line) + 1 + width(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns the columns that a text takes. Chinese characters take two.
fn width(text: &str) -> usize {
    text.chars().map(|character| if character >= '\u{1100}' { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_wrapped_within_the_width() {
        let words = "word ".repeat(40);
        let columns: [Column<'_, String>; 2] =
            [("id", Align::Left, &|_| "7".into()), ("type", Align::Left, &|_| "心率\u{1b}".into())];
        let watches = |row: &String| vec![row.clone(), "note".to_owned()];
        let mut out = Vec::new();
        wrapped_table(&[words], columns, ("watches", &watches), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "id  type   watches");
        assert!(lines[1].starts_with("7   心率   word word"), "{text}");
        assert!(lines[2].starts_with("           word"), "{text}");
        assert_eq!(lines.last().unwrap(), &"           note");
        assert!(lines.iter().all(|line| width(line) <= WIDTH), "{text}");
        assert_eq!(lines.len(), 5, "{text}");
    }

    #[test]
    fn a_word_that_is_too_long_stands_alone() {
        assert_eq!(wrapped("a 123456 b", 4), ["a", "123456", "b"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
