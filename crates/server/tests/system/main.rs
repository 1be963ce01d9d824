//! The built program as its users have it: real processes, real files, real signals.
//!
//! `support` starts and stops them; each other module is one side of the program.

#[cfg(test)]
mod alerts;
mod archetype;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod beside;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod db;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod import;
#[cfg(test)]
mod job;
#[cfg(test)]
mod load;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod neighbours;
#[cfg(test)]
#[path = "../../../store/tests/shared/cluster.rs"]
mod own_cluster;
#[cfg(test)]
#[path = "../../../store/tests/shared/postgres.rs"]
mod postgres;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod report;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod server_database;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
#[cfg(test)]
mod what_if;
