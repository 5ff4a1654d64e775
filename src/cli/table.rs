//! Tables for people: columns as wide as what they hold, numbers to the right.

use std::fmt;

pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |row: &[String]| row.iter().map(|cell| cell.chars().count()).collect::<Vec<_>>();
        let mut widths: Vec<usize> = self.head.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells(row)) {
                *width = (*width).max(cell);
            }
        }
        let number = |column: usize| {
            let mut column = self.rows.iter().map(|row| &row[column]);
            column.all(|cell| cell == "-" || cell.parse::<f64>().is_ok())
        };
        let right: Vec<bool> = (0..self.head.len()).map(number).collect();
        let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
        for (index, row) in std::iter::once(&head).chain(&self.rows).enumerate() {
            let padded = row.iter().zip(&widths).zip(&right).map(|((cell, width), right)| {
                if *right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            let line = padded.collect::<Vec<_>>().join("  ");
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "COUNT"]);
        table.row(vec!["a".into(), "1".into()]);
        table.row(vec!["longer".into(), "200000".into()]);
        assert_eq!(table.to_string(), "NAME     COUNT\na            1\nlonger  200000");
    }
}
