// The key of a service that asks for one: typed here, kept until the tab is closed, shown to this
// service alone.

const NAME = "sfumato.key";
const form = document.getElementById("key");
const field = document.getElementById("key-field");
const error = document.getElementById("key-error");
const forget = document.getElementById("forget-key");

export const current = () => sessionStorage.getItem(NAME);

/** Calls `onKey` once a key was typed. */
export function onTyped(onKey) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = field.value.trim();
    // What can't stand in a header would be an error of another kind.
    if (!/^[!-~]+$/.test(key)) return ask("That is no key.");
    sessionStorage.setItem(NAME, key);
    field.value = "";
    form.hidden = true;
    error.textContent = "";
    forget.hidden = false;
    onKey();
  });
  forget.hidden = current() === null;
}

/** The service wants a key, or another one. */
export function ask(why) {
  if (error.textContent !== why) error.textContent = why;
  error.hidden = false;
  if (!form.hidden) return; // somebody may be typing elsewhere
  form.hidden = false;
  field.focus();
}

forget.addEventListener("click", () => {
  sessionStorage.removeItem(NAME);
  location.reload(); // the pictures that it let us see go with it
});
