//! The manual page and shell completions, made of the command line itself.

use super::arguments::{CommandLine, Manual};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use std::io;

/// The page, or the script of a shell.
///
/// # Errors
/// Nothing that is written to memory fails; the libraries say that it might.
pub fn text(kind: Manual) -> io::Result<String> {
    let mut command = CommandLine::command();
    let mut out = Vec::new();
    let shell = match kind {
        Manual::Man => {
            clap_mangen::Man::new(command).render(&mut out)?;
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        Manual::Bash => Shell::Bash,
        Manual::Zsh => Shell::Zsh,
        Manual::Fish => Shell::Fish,
    };
    generate(shell, &mut command, "hawser", &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_and_the_completions_know_the_commands() {
        for kind in [Manual::Man, Manual::Bash, Manual::Zsh, Manual::Fish] {
            let text = text(kind).unwrap();
            assert!(text.contains("convert") && text.contains("health"), "{kind:?}");
        }
    }
}
