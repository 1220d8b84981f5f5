//! Blocks that are repeated: by count, or over a table.
//!
//! Owns the lines from `repeat` to its `end`. Bounded: blocks are nested 16 deep.

use super::{
    ast::{Kind, Repeat, Rounds, Row, Statement},
    cursor::Cursor,
    expr,
    parse::Builder,
    place::{Place, ScriptError},
    template,
};

const MAX_BLOCKS: usize = 16;

/// A repeated block whose end has not come. A table's rows come first.
pub(super) struct Open {
    pub(super) place: Place,
    names: Vec<String>,
    pub(super) rounds: Option<Rounds>,
    rows: Vec<Row>,
    pub(super) body: Vec<Statement>,
}

impl Builder<'_> {
    /// `repeat 5`, `repeat 5 as i`, or `repeat a, b in` and a table.
    pub(super) fn open_block(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScriptError> {
        if self.blocks.len() >= MAX_BLOCKS {
            return Err(cursor.error(format!("repeats are nested more than {MAX_BLOCKS} deep")));
        }
        let place = cursor.place();
        cursor.word();
        let table = {
            let mut ahead = cursor.clone();
            ahead.rest().ends_with(" in")
        };
        let (names, rounds) = if table {
            (table_names(cursor)?, None)
        } else {
            let count = expr::parse(cursor, 0)?;
            let name = if cursor.peek_word() == "as" {
                cursor.word();
                vec![cursor.new_name()?]
            } else {
                Vec::new()
            };
            (name, Some(Rounds::Count(count)))
        };
        cursor.expect_end()?;
        self.blocks.push(Open {
            place,
            names,
            rounds,
            rows: Vec::new(),
            body: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn close_block(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScriptError> {
        let Some(open) = self.blocks.pop() else {
            return Err(cursor.error("there is no repeat that this could end"));
        };
        cursor.word();
        cursor.expect_end()?;
        let Some(rounds) = open.rounds else {
            return Err(ScriptError::new(
                &open.place,
                "the table of this repeat has no \"do\" after it",
            ));
        };
        self.push(Statement {
            place: open.place,
            kind: Kind::Repeat(Repeat {
                names: open.names,
                rounds,
                body: open.body.into(),
            }),
        });
        Ok(())
    }
}

fn table_names(cursor: &mut Cursor<'_>) -> Result<Vec<String>, ScriptError> {
    let mut names = vec![cursor.new_name()?];
    while cursor.take(",") {
        names.push(cursor.new_name()?);
    }
    if cursor.word() != "in" {
        return Err(cursor.expected("\",\" and another name, or \"in\" and a table"));
    }
    Ok(names)
}

impl Open {
    /// A row of the table: byte templates parted by `|`; `do` ends it, `end` would leave it without a body.
    pub(super) fn table_row(
        &mut self,
        cursor: &mut Cursor<'_>,
        word: &str,
    ) -> Result<(), ScriptError> {
        let place = cursor.place();
        if word == "do" {
            cursor.word();
            cursor.expect_end()?;
            self.rounds = Some(Rounds::Table(std::mem::take(&mut self.rows).into()));
            return Ok(());
        }
        if word == "end" {
            return Err(cursor.error("the table of this repeat has no \"do\" after it"));
        }
        cursor.take("|");
        let mut cells = vec![template::parse(cursor, &['|'], 0)?];
        while cursor.take("|") && !cursor.at_end() {
            cells.push(template::parse(cursor, &['|'], 0)?);
        }
        cursor.expect_end()?;
        if cells.len() != self.names.len() {
            let wanted = self.names.join(" | ");
            return Err(ScriptError::new(
                &place,
                format!(
                    "expected {} cells ({wanted}), found {}",
                    self.names.len(),
                    cells.len()
                ),
            ));
        }
        self.rows.push(Row { place, cells });
        Ok(())
    }
}
