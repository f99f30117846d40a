//! Columns, as Docker prints them.

/// The narrowest column.
const WIDTH_MIN: usize = 10;
/// Between two columns.
const GAP: usize = 3;

/// Lines whose cells have tabs between them, with columns in their place: as Go's tabwriter does it
/// for Docker.
pub(crate) fn aligned(lines: &str) -> String {
    aligned_by(lines, WIDTH_MIN)
}

/// [`aligned`], with another narrowest column.
pub(crate) fn aligned_by(lines: &str, width_min: usize) -> String {
    let mut widths = Vec::new();
    for line in lines.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        // What stands behind the last tab belongs to no column.
        for (index, cell) in cells[..cells.len() - 1].iter().enumerate() {
            if index == widths.len() {
                widths.push(width_min);
            }
            widths[index] = widths[index].max(cell.chars().count() + GAP);
        }
    }
    let mut text = String::with_capacity(lines.len() * 2);
    for line in lines.lines() {
        let mut cells = line.split('\t').zip(widths.iter().copied().chain([0])).peekable();
        while let Some((cell, width)) = cells.next() {
            text.push_str(cell);
            if cells.peek().is_some() {
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
        let lines = "ID\tNAME\tX\n0123456789ab\tgrößer\ty\n\tn\t\n";
        assert_eq!(
            super::aligned(lines),
            "ID             NAME      X\n\
             0123456789ab   größer    y\n\
             \u{20}              n         \n"
        );
    }
}
