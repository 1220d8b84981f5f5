//! `secapp`: makes card images, puts them into virtual readers, looks at them.
//!
//! ```text
//! secapp new         cli/new.rs      a card image
//! secapp insert      cli/insert.rs   into the reader, until told to stop
//! secapp rack        cli/rack.rs     a folder of them
//! secapp inspect     cli/inspect.rs  what is on an image, without its secrets
//! secapp completions cli/mod.rs      for the shell
//! ```

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
