//! `installed(software, name)`: whether a package of that name (letter case aside) is in the list. Null if the list is.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray},
    compute::cast,
    datatypes::DataType,
};
use datafusion::{
    common::{exec_err, plan_err},
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Installed {
    signature: Signature,
}

impl Default for Installed {
    fn default() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Installed {
    fn name(&self) -> &str {
        "installed"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let named = |element: &DataType| match element {
            DataType::Struct(fields) => fields.iter().any(|field| field.name() == "name"),
            _ => false,
        };
        match arg_types {
            [DataType::List(element), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8]
                if named(element.data_type()) =>
            {
                Ok(DataType::Boolean)
            }
            _ => {
                plan_err!("installed(software, name) takes a list of packages and a text, not {arg_types:?}")
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let packages = arrays[0].as_list::<i32>();
        let wanted = cast(&arrays[1], &DataType::Utf8)?;
        let wanted = wanted.as_string::<i32>();
        let Some(names) = packages.values().as_struct().column_by_name("name") else {
            return exec_err!("the packages have no field 'name'");
        };
        let names = cast(names, &DataType::Utf8)?;
        let names = names.as_string::<i32>();
        let offsets = packages.value_offsets();
        let verdicts: BooleanArray =
            (0..packages.len())
                .map(|row| {
                    if packages.is_null(row) || wanted.is_null(row) {
                        return None;
                    }
                    let mut entries = offsets[row] as usize..offsets[row + 1] as usize;
                    Some(entries.any(|at| {
                        names.is_valid(at) && names.value(at).eq_ignore_ascii_case(wanted.value(row))
                    }))
                })
                .collect();
        Ok(ColumnarValue::Array(Arc::new(verdicts)))
    }
}
