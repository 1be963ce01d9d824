//! The description of the exposed tables at the root, Swagger 2.0 as PostgREST gives it.

use nudge_store::catalog::{Column, ColumnType, Table};
use serde_json::{Map, Value, json};

/// Describes tables.
pub fn document(tables: &[&Table], url: &str) -> Value {
    let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
    let mut paths = Map::new();
    let mut definitions = Map::new();
    let mut parameters = common_parameters();
    for table in tables {
        paths.insert(format!("/{}", table.name), path(table));
        definitions.insert(table.name.to_owned(), definition(table));
        for column in table.columns {
            parameters.insert(row_filter(table, column), filter_parameter(column));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {
            "title": "Nudge",
            "description": "PostgREST's read contract for the tables of Nudge.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "host": host,
        "basePath": super::ROOT,
        "schemes": [scheme],
        "consumes": ["application/json"],
        "produces": [
            "application/json", "application/vnd.pgrst.object+json", "application/vnd.pgrst.array+json;nulls=stripped",
            "text/csv",
        ],
        "paths": paths,
        "definitions": definitions,
        "parameters": parameters,
    })
}

fn row_filter(table: &Table, column: &Column) -> String {
    format!("rowFilter.{}.{}", table.name, column.name)
}

fn common_parameters() -> Map<String, Value> {
    let parameter = |name: &str, place: &str, description: &str| json!({ "name": name, "in": place, "type": "string", "required": false, "description": description });
    let named = [
        ("select", parameter("select", "query", "Filtering Columns")),
        ("order", parameter("order", "query", "Ordering")),
        ("limit", parameter("limit", "query", "Limiting and Pagination")),
        ("offset", parameter("offset", "query", "Limiting and Pagination")),
        ("range", parameter("Range", "header", "Limiting and Pagination")),
        ("rangeUnit", parameter("Range-Unit", "header", "Limiting and Pagination")),
        ("preferCount", parameter("Prefer", "header", "count=exact, count=planned or count=estimated")),
    ];
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn filter_parameter(column: &Column) -> Value {
    json!({ "name": column.name, "in": "query", "type": "string", "required": false })
}

fn path(table: &Table) -> Value {
    let reference = |name: String| json!({ "$ref": format!("#/parameters/{name}") });
    let filters = table.columns.iter().map(|column| row_filter(table, column));
    let common =
        ["select", "order", "range", "rangeUnit", "offset", "limit", "preferCount"].map(str::to_owned);
    let parameters: Vec<_> = filters.chain(common).map(reference).collect();
    json!({
        "get": {
            "tags": [table.name],
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "OK",
                    "schema": { "type": "array", "items": { "$ref": format!("#/definitions/{}", table.name) } },
                },
                "206": { "description": "Partial Content" },
            },
        },
    })
}

fn definition(table: &Table) -> Value {
    let properties: Map<String, Value> = table
        .columns
        .iter()
        .map(|column| {
            let mut property = property(column.column_type);
            if table.key.contains(&column.name) {
                property["description"] = "Note:\nThis is a Primary Key.<pk/>".into();
            }
            (column.name.to_owned(), property)
        })
        .collect();
    let required: Vec<_> =
        table.columns.iter().filter(|column| !column.nullable).map(|column| column.name).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

fn property(column_type: ColumnType) -> Value {
    let format = column_type.name();
    match column_type {
        ColumnType::Text | ColumnType::Uuid | ColumnType::Date | ColumnType::Timestamp => {
            json!({ "type": "string", "format": format })
        }
        ColumnType::Integer | ColumnType::BigInt => json!({ "type": "integer", "format": format }),
        ColumnType::Numeric { .. } | ColumnType::Double => json!({ "type": "number", "format": format }),
        ColumnType::Boolean => json!({ "type": "boolean", "format": format }),
        ColumnType::Json => json!({ "format": format }),
        ColumnType::TextArray => json!({ "type": "array", "items": { "type": "string" }, "format": format }),
    }
}
