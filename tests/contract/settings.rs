//! The test that `.env.example` agrees with the definitions of the settings.

use super::sources::read;

#[test]
fn the_example_of_the_environment_is_what_the_settings_say() {
    assert_eq!(read(".env.example"), aside::config::env_example(), "run `cargo run -- env-example > .env.example`");
}
