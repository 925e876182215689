//! Formats plain text and tables for people.

use std::io::{self, Write};

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// Writes right-aligned columns, each as wide as its widest cell.
pub fn table<const N: usize>(rows: &[[String; N]], out: &mut impl Write) -> io::Result<()> {
    table_of([Align::Right; N], rows, out)
}

/// Writes columns with these alignments, each as wide as its widest cell. Lines have no trailing
/// blanks.
pub fn table_of<const N: usize>(
    sides: [Align; N],
    rows: &[[String; N]],
    out: &mut impl Write,
) -> io::Result<()> {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths.into_iter().zip(sides))
            .map(|(cell, (width, side))| match side {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
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
        let rows = [["id", "count", "why"], ["night", "7", "é"], ["x", "12345678", ""]]
            .map(|row| row.map(str::to_owned));
        let mut out = Vec::new();
        table_of([Align::Left, Align::Right, Align::Left], &rows, &mut out).unwrap();
        let expected = "id        count  why\nnight         7  é\nx      12345678\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
