// The reference of a command line, from what it is made of; both programs' tests hold their page to it.

/// Every command's long help, one section each, as `--help` prints it on a terminal of 100 columns.
fn page(program: &str, command: clap::Command, how: &str) -> String {
    let mut page = format!(
        "# Commands and flags of {program}\n\nGenerated from the code: `{how}` writes it. It is what `--help` prints.\n"
    );
    let mut command = command.term_width(100);
    command.build();
    sections(command, &mut page);
    page
}

fn sections(command: clap::Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    // What a variable is set to on this machine is nobody else's concern.
    let help = command
        .clone()
        .term_width(100)
        .mut_args(|arg| arg.hide_env_values(true))
        .render_long_help()
        .to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    *page += &format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"));
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        sections(sub.clone(), page);
    }
}

/// Holds the page in the repository to `page`; `UPDATE=1` writes it.
fn hold(path: &str, page: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, page).expect("the page can be written");
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "{path} is not what the code says: its first lines tell how to write it");
}
