// A button under which more is shown, until one clicks elsewhere.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export function Popover({ name, opened, children }: {
  name: string;
  opened?: (isOpen: boolean) => void;
  children: ComponentChildren;
}) {
  const place = useRef<HTMLDetailsElement>(null);
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    opened?.(isOpen);
    if (!isOpen) return undefined;
    place.current?.querySelector("input")?.focus();
    const pressed = (event: Event): void => {
      if (place.current && !place.current.contains(event.target as Node)) place.current.open = false;
    };
    addEventListener("pointerdown", pressed);
    return () => removeEventListener("pointerdown", pressed);
  }, [isOpen]);
  return (
    <details class="popover" ref={place} onToggle={(event) => setOpen(event.currentTarget.open)} onKeyDown={(event) => {
      if (event.key !== "Escape") return;
      event.currentTarget.open = false;
      event.currentTarget.querySelector("summary")?.focus();
    }}>
      <summary>{name}</summary>
      <div class="choices">{children}</div>
    </details>
  );
}
