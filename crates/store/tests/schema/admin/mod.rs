//! Looking after a database through the store: pushes, differences, dumps, findings, the rights as they are.

mod check;
mod dump;
mod embedded;
mod migration;
mod shape;
mod verify;
