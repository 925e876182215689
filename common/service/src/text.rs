//! Prints what commands found: tables and plain text for people, or one JSON document.

use std::io::{self, Write};

use serde::Serialize;

/// Width of the terminal, in columns.
const WIDTH: usize = 100;

/// Least width of the last column, even if the others leave less.
const LAST_MIN: usize = 30;

/// Gap between two columns.
const GAP: &str = "  ";

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

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

/// Writes columns with these alignments, each as wide as its widest cell. Lines have no trailing
/// blanks.
pub fn table_of<const N: usize>(
    sides: [Align; N],
    rows: &[[String; N]],
    out: &mut impl Write,
) -> io::Result<()> {
    let widest = |column: usize| rows.iter().map(|row| width(&row[column])).max();
    let widths: [usize; N] = std::array::from_fn(|column| widest(column).unwrap_or_default());
    for row in rows {
        let cells = row.iter().zip(widths.into_iter().zip(sides));
        let cells: Vec<String> =
            cells.map(|(cell, (widest, side))| padded(cell, widest, side)).collect();
        writeln!(out, "{}", cells.join(GAP).trim_end())?;
    }
    Ok(())
}

/// Returns a cell as wide as its column.
fn padded(cell: &str, widest: usize, side: Align) -> String {
    let blanks = " ".repeat(widest - width(cell));
    match side {
        Align::Left => format!("{cell}{blanks}"),
        Align::Right => format!("{blanks}{cell}"),
    }
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
            ahead.push_str(&padded(&one_line(cell), widest, Align::Left));
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
    text.chars().map(|character| if character >= '\u{2e80}' { 2 } else { 1 }).sum()
}

/// Prints what a command found: one JSON document, or what `text` prints for people.
pub fn print_found<T: Serialize, W: Write>(
    json: bool,
    found: &T,
    out: &mut W,
    text: impl FnOnce(&T, &mut W) -> io::Result<()>,
) -> io::Result<()> {
    if !json {
        return text(found, out);
    }
    serde_json::to_writer_pretty(&mut *out, found)?;
    writeln!(out)
}

/// Replaces characters that would begin a line of their own, or move the text around them or a
/// terminal's cursor: controls, separators of lines and paragraphs, changes of the direction.
pub fn one_line(text: &str) -> String {
    let moves = |one: char| {
        one.is_control()
            || matches!(one, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|one| if moves(one) { ' ' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["id", "count", "why"], ["night", "7…", "é"], ["心率", "12345678", ""]]
            .map(|row| row.map(str::to_owned));
        let mut out = Vec::new();
        table_of([Align::Left, Align::Right, Align::Left], &rows, &mut out).unwrap();
        let expected = "id        count  why\nnight        7…  é\n心率   12345678\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

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
