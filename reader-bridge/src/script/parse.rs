//! From files to a script: sections, repeated blocks, inclusion.
//!
//! Owns the structure above lines. It opens no file itself: a [`Files`] does. Bounded: files may include each other
//! 16 deep, and a script has at most 100,000 lines with all that it includes.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ast::{Block, Case, Function, Kind, Repeat, Rounds, Row, Script, Statement},
    check::check,
    cursor::{Cursor, logical_lines},
    expr,
    place::{Place, ScriptError, Source},
    statement, template,
};

const MAX_INCLUDES: usize = 16;
const MAX_LINES: usize = 100_000;
const MAX_BLOCKS: usize = 16;

/// Where scripts are read from.
pub trait Files {
    /// The whole text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Files of the system, of at most 4 MiB each; `-` is standard input.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

const MAX_FILE: u64 = 4 << 20;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        use io::Read as _;
        let mut bytes = Vec::new();
        let limit = MAX_FILE + 1;
        let input: Box<dyn io::Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(std::fs::File::open(path)?)
        };
        input.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other("longer than 4 MiB: this is no script"));
        }
        String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            io::Error::other(format!("line {} is not UTF-8", line + 1))
        })
    }
}

/// Why a file does not become a script.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

/// Reads a script with all that it includes.
pub fn load(path: &Path, files: &dyn Files) -> Result<Script, LoadError> {
    let text = files.read(path).map_err(|error| LoadError::File {
        path: path.to_owned(),
        error,
    })?;
    let source = Source::new(path.display().to_string(), &text);
    Ok(Builder::new(path, files).build(&source)?)
}

/// Which section lines belong to.
enum Section {
    Preamble,
    Setup,
    Teardown,
    Test,
}

struct Builder<'a> {
    path: PathBuf,
    files: &'a dyn Files,
    section: Section,
    preamble: Vec<Statement>,
    setup: Block,
    teardown: Block,
    /// The statements of the section that is open.
    body: Vec<Statement>,
    blocks: Vec<Open>,
    cases: Vec<Case>,
    functions: HashMap<String, Function>,
    lines: usize,
    ended: bool,
}

/// A repeated block whose end has not come. A table's rows come first.
struct Open {
    place: Place,
    names: Vec<String>,
    rounds: Option<Rounds>,
    rows: Vec<Row>,
    body: Vec<Statement>,
}

impl<'a> Builder<'a> {
    fn new(path: &Path, files: &'a dyn Files) -> Self {
        Self {
            path: path.to_owned(),
            files,
            section: Section::Preamble,
            preamble: Vec::new(),
            setup: Arc::new([]),
            teardown: Arc::new([]),
            body: Vec::new(),
            blocks: Vec::new(),
            cases: Vec::new(),
            functions: HashMap::new(),
            lines: 0,
            ended: false,
        }
    }

    fn build(mut self, source: &Arc<Source>) -> Result<Script, ScriptError> {
        let path = self.path.clone();
        self.file(source, &path, 0)?;
        self.close_section()?;
        if self.cases.is_empty() {
            self.whole_file(source);
        } else {
            self.preamble_without_commands()?;
        }
        let preamble: Block = std::mem::take(&mut self.preamble).into();
        for case in &mut self.cases {
            case.preamble = Arc::clone(&preamble);
        }
        let script = Script {
            path: self.path,
            cases: self.cases,
            functions: Arc::new(self.functions),
        };
        check(&script)?;
        Ok(script)
    }

    /// A script without test cases is one.
    fn whole_file(&mut self, source: &Arc<Source>) {
        let name = self.path.file_stem().unwrap_or_default();
        self.cases.push(Case {
            name: name.to_string_lossy().into_owned(),
            clauses: Vec::new(),
            place: Place {
                source: Arc::clone(source),
                line: 1,
                column: 1,
            },
            preamble: Arc::new([]),
            setup: Arc::clone(&self.setup),
            body: std::mem::take(&mut self.preamble).into(),
            teardown: Arc::clone(&self.teardown),
        });
    }

    fn preamble_without_commands(&self) -> Result<(), ScriptError> {
        let touches = |statement: &&Statement| {
            !matches!(
                statement.kind,
                Kind::Assign(..)
                    | Kind::Param(..)
                    | Kind::Fetch(_)
                    | Kind::Limit(_)
                    | Kind::Needs(_)
                    | Kind::Check(..)
                    | Kind::Skip(_)
            )
        };
        match self.preamble.iter().find(touches) {
            Some(statement) => Err(ScriptError::new(
                &statement.place,
                "this comes before the first test, where only values and settings stand; put it into setup, which runs before each test",
            )),
            None => Ok(()),
        }
    }

    fn file(&mut self, source: &Arc<Source>, path: &Path, depth: usize) -> Result<(), ScriptError> {
        let blocks = self.blocks.len();
        for line in logical_lines(source) {
            let mut cursor = line.cursor();
            self.lines += 1;
            if self.lines > MAX_LINES {
                return Err(cursor.error(format!(
                    "more than {MAX_LINES} lines, with all that is included"
                )));
            }
            self.line(&mut cursor, path, depth)?;
            if self.ended {
                break;
            }
        }
        match self.blocks.get(blocks) {
            Some(open) => Err(ScriptError::new(&open.place, "this repeat has no end")),
            None => Ok(()),
        }
    }

    fn line(
        &mut self,
        cursor: &mut Cursor<'_>,
        path: &Path,
        depth: usize,
    ) -> Result<(), ScriptError> {
        let word = cursor.peek_word();
        if let Some(open) = self.blocks.last_mut()
            && open.rounds.is_none()
        {
            return open.table_row(cursor, &word);
        }
        match word.as_str() {
            "exit" => self.ended = true,
            "include" => return self.include(cursor, path, depth),
            "def" => return self.define(cursor),
            "setup" | "teardown" | "test" => return self.open_section(cursor, &word),
            "clause" => return self.clause(cursor),
            "repeat" => return self.open_block(cursor),
            "end" => return self.close_block(cursor),
            _ => {
                let statement = statement::parse(cursor, &word)?;
                self.push(statement);
            }
        }
        Ok(())
    }

    fn push(&mut self, statement: Statement) {
        let list = match (self.blocks.last_mut(), &self.section) {
            (Some(open), _) => &mut open.body,
            (None, Section::Preamble) => &mut self.preamble,
            (None, _) => &mut self.body,
        };
        list.push(statement);
    }

    /// `include file` or `include "file"`, relative to the file that says so.
    fn include(
        &mut self,
        cursor: &mut Cursor<'_>,
        from: &Path,
        depth: usize,
    ) -> Result<(), ScriptError> {
        cursor.word();
        cursor.skip_space();
        let place = cursor.place();
        let name = cursor.rest();
        let name = name.trim_matches('"');
        if name.is_empty() {
            return Err(cursor.expected("a file's name"));
        }
        if depth + 1 >= MAX_INCLUDES {
            return Err(ScriptError::new(
                &place,
                format!(
                    "files include each other more than {MAX_INCLUDES} deep: does this one include itself?"
                ),
            ));
        }
        let path = from.parent().unwrap_or(Path::new("")).join(name);
        let text = self.files.read(&path).map_err(|error| {
            ScriptError::new(&place, format!("cannot read {}: {error}", path.display()))
        })?;
        let source = Source::new(path.display().to_string(), &text);
        self.file(&source, &path, depth + 1)?;
        // `exit` ends the file that says so.
        self.ended = false;
        Ok(())
    }

    /// `def name(a, b) = expression`.
    fn define(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScriptError> {
        cursor.word();
        let name = cursor.name()?;
        cursor.expect("(")?;
        let mut parameters = Vec::new();
        while !cursor.take(")") {
            if !parameters.is_empty() {
                cursor.expect(",")?;
            }
            parameters.push(cursor.new_name()?);
        }
        cursor.expect("=")?;
        let body = expr::parse(cursor, 0)?;
        cursor.expect_end()?;
        self.functions.insert(name, Function { parameters, body });
        Ok(())
    }

    fn open_section(&mut self, cursor: &mut Cursor<'_>, word: &str) -> Result<(), ScriptError> {
        if !self.blocks.is_empty() {
            return Err(
                cursor.error("a section cannot begin inside of a repeat; write its end first")
            );
        }
        self.close_section()?;
        let place = cursor.place();
        cursor.word();
        let name = cursor.rest();
        match word {
            "test" if name.is_empty() => return Err(cursor.expected("the test's name")),
            "test" => {
                self.section = Section::Test;
                self.cases.push(Case {
                    name,
                    clauses: Vec::new(),
                    place,
                    preamble: Arc::new([]),
                    setup: Arc::clone(&self.setup),
                    body: Arc::new([]),
                    teardown: Arc::clone(&self.teardown),
                });
            }
            _ if !name.is_empty() => {
                return Err(ScriptError::new(
                    &place,
                    format!("nothing may follow {word:?} on its line"),
                ));
            }
            "setup" => self.section = Section::Setup,
            _ => self.section = Section::Teardown,
        }
        Ok(())
    }

    fn close_section(&mut self) -> Result<(), ScriptError> {
        let body: Block = std::mem::take(&mut self.body).into();
        match self.section {
            Section::Preamble => {}
            Section::Setup => self.setup = body,
            Section::Teardown => self.teardown = body,
            Section::Test => {
                if let Some(case) = self.cases.last_mut() {
                    if body.is_empty() {
                        return Err(ScriptError::new(&case.place, "this test does nothing"));
                    }
                    case.body = body;
                }
            }
        }
        Ok(())
    }

    fn clause(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScriptError> {
        let place = cursor.place();
        cursor.word();
        let text = cursor.rest();
        match (&self.section, self.cases.last_mut()) {
            (Section::Test, Some(case)) if !text.is_empty() => {
                case.clauses.push(text);
                Ok(())
            }
            (Section::Test, _) => Err(cursor.expected("the clause")),
            _ => Err(ScriptError::new(
                &place,
                "a clause stands in the test that checks it",
            )),
        }
    }

    /// `repeat 5`, `repeat 5 as i`, or `repeat a, b in` and a table.
    fn open_block(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScriptError> {
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

    fn close_block(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScriptError> {
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
    fn table_row(&mut self, cursor: &mut Cursor<'_>, word: &str) -> Result<(), ScriptError> {
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
