//! Columns, as Docker prints them.

/// The narrowest column.
const WIDTH_MIN: usize = 10;
/// Between two columns.
const GAP: usize = 3;

/// Lines of cells below each other; the first one is the heading. The last cell of a line is not
/// filled up.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [WIDTH_MIN; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            text.push_str(cell);
            if index + 1 < N {
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["ID", "NAME", "X"].map(str::to_owned),
            ["0123456789ab", "größer", "y"].map(str::to_owned),
            ["", "n", ""].map(str::to_owned),
        ];
        assert_eq!(
            super::table(&rows),
            "ID             NAME      X\n\
             0123456789ab   größer    y\n\
             \u{20}              n         \n"
        );
    }
}
