"""The sections of the report: each module gathers what one section of the page shows, as plain values for JSON.

`null` in place of a section's part means that the run holds nothing for it; the page then says so in words.
"""
