//! How is a result shown? Nothing here decides.
//!
//! ```text
//! text           verdict, table, findings and what was seen, for people; terminal and paint serve it
//! terminal       the trust table and what it comes to, in columns and sentences
//! json           the contract of every command's JSON; levels_json and platform_json are its parts
//! html           a page or a report, with the table as a picture
//! ```

mod advisories;
pub mod html;
mod json;
mod levels_json;
mod paint;
mod platform_json;
mod platform_words;
mod terminal;
mod text;

pub use levels_json::level_words;
pub use paint::Paint;
pub use terminal::{MEANING, Signed, summary, whose_connection};
pub use text::SIMULATED;
