//! From files to a script: sections, repeated blocks, inclusion.
//!
//! Owns the structure above lines. It opens no file itself: a [`Files`] does. Bounded: files may include each other
//! 16 deep, and a script has at most 100,000 lines with all that it includes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ast::{Block, Case, Function, Kind, Script, Statement},
    blocks::Open,
    check::check,
    cursor::{Cursor, logical_lines},
    expr,
    files::{Files, LoadError},
    place::{Place, ScriptError, Source},
    statement,
};

const MAX_INCLUDES: usize = 16;
const MAX_LINES: usize = 100_000;

/// Reads a script with all that it includes.
pub fn load(path: &Path, files: &dyn Files) -> Result<Script, LoadError> {
    load_after(None, path, files)
}

/// The same, with the functions that the script before has made: for lines of a shell.
pub fn load_after(
    before: Option<&Script>,
    path: &Path,
    files: &dyn Files,
) -> Result<Script, LoadError> {
    let text = files.read(path).map_err(|error| LoadError::File {
        path: path.to_owned(),
        error,
    })?;
    let source = Source::new(path.display().to_string(), &text);
    let mut builder = Builder::new(path, files);
    if let Some(before) = before {
        builder.functions = (*before.functions).clone();
    }
    Ok(builder.build(&source)?)
}

/// Which section lines belong to.
enum Section {
    Preamble,
    Setup,
    Teardown,
    Test,
}

pub(super) struct Builder<'a> {
    path: PathBuf,
    files: &'a dyn Files,
    section: Section,
    preamble: Vec<Statement>,
    setup: Block,
    teardown: Block,
    /// The statements of the section that is open.
    body: Vec<Statement>,
    pub(super) blocks: Vec<Open>,
    cases: Vec<Case>,
    functions: HashMap<String, Function>,
    lines: usize,
    ended: bool,
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

    pub(super) fn push(&mut self, statement: Statement) {
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
}
