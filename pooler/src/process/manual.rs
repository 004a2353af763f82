//! The manual page and shell completions, made of the command line itself.

use super::arguments::{CommandLine, Manual};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate, generate_to};
use std::io;
use std::path::Path;

/// The page, or the script of a shell.
///
/// # Errors
/// Nothing that is written to memory fails; the libraries say that it might.
pub fn text(kind: Manual) -> io::Result<String> {
    let mut command = CommandLine::command();
    let mut out = Vec::new();
    let shell = match kind {
        Manual::Man => {
            clap_mangen::Man::new(command.disable_help_subcommand(true)).render(&mut out)?;
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        Manual::Bash => Shell::Bash,
        Manual::Zsh => Shell::Zsh,
        Manual::Fish => Shell::Fish,
    };
    generate(shell, &mut command, "hawser", &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Writes `hawser.1`, a page for each command (`hawser-check.1`), and the completions: `hawser.bash`, `_hawser`,
/// `hawser.fish`. The folder is made if it is not there.
///
/// # Errors
/// The folder or a file in it cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(CommandLine::command(), folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut CommandLine::command(), "hawser", folder)?;
    }
    Ok(())
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

    #[test]
    fn every_page_that_the_manual_points_to_is_written() {
        let folder = std::env::temp_dir().join(format!("hawser-manual-{}", std::process::id()));
        write(&folder).unwrap();
        let page = std::fs::read_to_string(folder.join("hawser.1")).unwrap().replace('\\', "");
        let named: Vec<&str> = page.lines().filter_map(|line| line.strip_suffix("(1)")).collect();
        assert!(named.contains(&"hawser-check"), "{page}");
        let written = |name: &str| folder.join(name).is_file();
        assert!(named.iter().all(|name| written(&format!("{name}.1"))), "{named:?}");
        assert!(["hawser.bash", "_hawser", "hawser.fish"].into_iter().all(written));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
