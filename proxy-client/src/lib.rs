
pub mod front;
pub mod open;
pub mod router;
pub mod tools;
