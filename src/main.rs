//! sprite-env: see the crate `sprite_env`.

fn main() -> std::process::ExitCode {
    sprite_env::cli::main()
}
