//! spritectl: the same program as sprite-env, under its other name.

fn main() -> std::process::ExitCode {
    sprite_env::cli::main()
}
