/// Show a module on one line, by these names and values. With a flag behind a semicolon, it shows
/// that the module takes no part in training where it does not.
#[doc(hidden)]
#[macro_export]
macro_rules! display_on_one_line {
    ($module:ty, $this:ident: $($name:literal = $value:expr),* $(; $training:ident)?) => {
        impl ::burn::module::ModuleDisplay for $module {
            fn custom_settings(&self) -> Option<::burn::module::DisplaySettings> {
                let settings = ::burn::module::DisplaySettings::new();
                settings.with_new_line_after_attribute(false).optional()
            }

            fn custom_content(
                &self,
                content: ::burn::module::Content,
            ) -> Option<::burn::module::Content> {
                let $this = self;
                let content = content$(.add($name, &$value))*;
                $(if !$this.$training.is_enabled() {
                    return content.add(stringify!($training), &$this.$training).optional();
                })?
                content.optional()
            }
        }
    };
}

pub(crate) use display_on_one_line;
