//! Sort orders: `add-sort-order`, `set-default-sort-order`.

use serde_json::{Value, json};

use super::{MetadataError, error::invalid, partition::check_source, schema, update::Change};

impl Change {
    /// `add-sort-order`: an equal order is reused; one without fields is order 0.
    pub(super) fn add_sort_order(&mut self, update: &Value) -> Result<(), MetadataError> {
        let order = update.get("sort-order").filter(|order| order["fields"].is_array());
        let Some(order) = order else { return invalid("'sort-order' is missing or has no list 'fields'") };
        for field in order["fields"].as_array().into_iter().flatten() {
            let direction = matches!(field["direction"].as_str(), Some("asc" | "desc"));
            let nulls = matches!(field["null-order"].as_str(), Some("nulls-first" | "nulls-last"));
            if !direction || !nulls || !field["transform"].is_string() {
                return invalid("a field of the order lacks 'transform', 'direction' or 'null-order'");
            }
        }
        let known = self.document.list("sort-orders").iter().find(|known| same(known, order));
        let id = if let Some(id) = known.and_then(|known| known["order-id"].as_i64()) {
            id
        } else {
            let is_unsorted = order["fields"].as_array().is_some_and(Vec::is_empty);
            let next = (self.document.highest("sort-orders", "order-id") + 1).max(1);
            let id = if is_unsorted { 0 } else { next };
            let mut order = order.clone();
            order["order-id"] = json!(id);
            self.document.push("sort-orders", order);
            id
        };
        self.last_order_id = Some(id);
        Ok(())
    }

    /// `set-default-sort-order`; -1 means the one just added.
    pub(super) fn set_default_sort_order(&mut self, update: &Value) -> Result<(), MetadataError> {
        let id = self.chosen_id(update, "sort-order-id", self.last_order_id, "sort order")?;
        if self.document.find("sort-orders", "order-id", id).is_none() {
            return invalid(format!("the table has no sort order {id}"));
        }
        self.document.set("default-sort-order-id", id);
        self.layout_changed = true;
        Ok(())
    }

    /// Checks the default order against the schema that the commit leaves behind.
    pub(super) fn check_order(&self) -> Result<(), MetadataError> {
        let default = self.document.int("default-sort-order-id").unwrap_or_default();
        let order = self.document.find("sort-orders", "order-id", default);
        let (Some(order), Some(schema)) = (order, self.document.current_schema()) else { return Ok(()) };
        let columns = schema::fields(schema);
        for field in order["fields"].as_array().into_iter().flatten() {
            check_source(field, "sort field", &field["source-id"].to_string(), &columns)?;
        }
        Ok(())
    }
}

fn same(left: &Value, right: &Value) -> bool {
    let fields = |order: &Value| -> Vec<Value> {
        let fields = order["fields"].as_array().into_iter().flatten();
        fields
            .map(|field| {
                json!([
                    field["source-id"],
                    field["source-ids"],
                    field["transform"],
                    field["direction"],
                    field["null-order"]
                ])
            })
            .collect()
    };
    fields(left) == fields(right)
}
