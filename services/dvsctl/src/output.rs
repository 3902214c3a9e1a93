// SPDX-License-Identifier: Apache-2.0
//! What is printed: data to stdout as tables, JSON or YAML, chatter to stderr.
//! Plain when piped, and colours never where NO_COLOR is set.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table of the usual columns.
    #[default]
    Table,
    /// A table of all columns.
    Wide,
    /// JSON, as it travels on the bus.
    Json,
    /// YAML; of documents, as `apply -f` reads them.
    Yaml,
    /// Names only, one per line, as `delete` takes them.
    Name,
}

/// How a list is printed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ListFormat {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: OutputFormat,
    /// Tables without their line of headings.
    #[arg(long)]
    pub no_headings: bool,
}

/// A table: columns aligned, no borders, no spaces at the ends of lines.
/// Without rows it is empty, headings too.
#[must_use]
pub fn table(headings: &[&str], rows: Vec<Vec<String>>, no_headings: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if !no_headings {
        table.add_row(headings.iter().copied());
    }
    for row in rows {
        // A line end within a cell would break the table's one line per row.
        table.add_row(row.into_iter().map(|cell| one_line(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn one_line(cell: &str) -> String {
    cell.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A cell for what may be missing.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Pretty JSON with a line end.
///
/// # Errors
/// The value has no JSON form.
pub fn json<T: Serialize>(value: &T) -> io::Result<String> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text)
}

/// One YAML document.
///
/// # Errors
/// The value has no YAML form.
pub fn yaml<T: Serialize>(value: &T) -> io::Result<String> {
    // By way of JSON: what people read is the human form of times and ids.
    let tree = serde_json::to_value(value)?;
    serde_saphyr::to_string(&tree).map_err(io::Error::other)
}

/// Prints data. A reader that has gone (`| head`) is no failure.
///
/// # Errors
/// Standard output can't be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says something to the person at the terminal, or to a log.
pub fn say(text: &str) {
    // Who closed stderr doesn't want to know.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says that a table is empty, which its reader could take for a failure.
pub fn say_if_empty(rows: usize, output: OutputFormat, text: &str) {
    if rows == 0 && matches!(output, OutputFormat::Table | OutputFormat::Wide) {
        say(text);
    }
}

/// Whether to colour what goes to stdout.
#[must_use]
pub fn colours() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !no_color && !dumb
}

/// `1 host`, `2 hosts`.
#[must_use]
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_are_aligned_and_plain() {
        let rows = vec![
            vec!["a".to_owned(), "long cell".to_owned(), String::new()],
            vec!["bbbb".to_owned(), "x\ny".to_owned(), "z".to_owned()],
        ];
        assert_eq!(
            table(&["ONE", "TWO", "THREE"], rows.clone(), false),
            "ONE   TWO        THREE\n\
             a     long cell\n\
             bbbb  x y        z\n"
        );
        assert_eq!(
            table(&["ONE", "TWO", "THREE"], rows, true),
            "a     long cell\nbbbb  x y        z\n"
        );
    }

    #[test]
    fn yaml_has_times_as_people_read_them() {
        assert_eq!(
            yaml(&dvs_schemas::Timestamp(0)).unwrap().trim(),
            "\"1970-01-01T00:00:00.000Z\""
        );
    }
}
